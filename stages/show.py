"""Show the scores of the last run beside the extractive baselines, and where its files are.

python -m stages.show
"""

from __future__ import annotations

from pathlib import Path

from stages.common.errors import UserError, run_stage
from stages.common.files import read_json
from stages.common.summary_table import summary_table

METRICS = Path("metrics/eval/metrics.json")


def main() -> None:
    try:
        metrics = read_json(METRICS)
    except FileNotFoundError:
        raise UserError(f"{METRICS}: not found; `dvc repro` writes it") from None
    print(summary_table(metrics))


if __name__ == "__main__":
    run_stage(main)
