"""Show the scores of the last run beside the extractive baselines, and where its files are.

    python -m stages.show

Where the run's bytes are not the committed ones since another kind of machine trained, a last line says so.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import read_json
from stages.core.git import run_git
from stages.scoring.score_table import summary_table

DECIDING = ("params.yaml", "models.yaml", "dvc.yaml", "stages", "data/rules", "data/sample")
"""What a run's result follows from, beside the machine: where one of these changed, the change explains it."""
RESTORE = "git restore dvc.lock metrics"


def changed(*names: str) -> bool:
    """Whether files, or folders, of the working folder are not those of the last commit."""
    return bool(run_git("diff", "--quiet", "HEAD", "--", *names).returncode)


def committed_machine() -> dict[str, Any] | None:
    """The kind of machine of the last commit's run; None where nothing says it."""
    shown = run_git("show", f"HEAD:./{paths.MACHINE.as_posix()}")
    return json.loads(shown.stdout) if shown.returncode == 0 else None


def describe(machine: Mapping[str, Any]) -> str:
    """A machine in a few words."""
    threads = [f"{machine['threads']} threads"] if "threads" in machine else []
    return ", ".join([machine["processor"], *threads, f"torch {machine['torch']}"])


def why_bytes_differ(recorded: Mapping[str, Any], ran: Mapping[str, Any]) -> str:
    """What two kinds of machine mean for a user, in one line."""
    return (
        f"The committed run was recorded on {describe(recorded)}; this one ran on {describe(ran)}. Sums are rounded "
        "otherwise there, so weights and summaries differ from the committed ones, and scores by chance: nothing is "
        f"wrong. `{RESTORE}` puts the committed files back; committing yours makes them the record."
    )


def main() -> None:
    try:
        scores = read_json(paths.EVAL_SCORES)
    except FileNotFoundError:
        raise UserError(f"{paths.EVAL_SCORES}: not found; `dvc repro` writes it") from None
    print(summary_table(scores))
    recorded = committed_machine()
    ran = read_json(paths.MACHINE) if paths.MACHINE.is_file() else None
    if recorded and ran and recorded != ran and changed("dvc.lock") and not changed(*DECIDING):
        print(f"\n{why_bytes_differ(recorded, ran)}")


if __name__ == "__main__":
    run_stage(main)
