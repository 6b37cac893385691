"""Show the scores of the last run beside the extractive baselines, and where its files are.

python -m stages.show
"""

from __future__ import annotations

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import read_json
from stages.scoring.score_table import summary_table


def main() -> None:
    try:
        metrics = read_json(paths.EVAL_METRICS)
    except FileNotFoundError:
        raise UserError(f"{paths.EVAL_METRICS}: not found; `dvc repro` writes it") from None
    print(summary_table(metrics))


if __name__ == "__main__":
    run_stage(main)
