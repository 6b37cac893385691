"""Try settings on DVC's queue, choose among them by one half of dev, and tell by the other half what that gains.

    python -m stages.sweep --dry-run
    python -m stages.sweep

sweep.yaml has the lists to try. What an earlier, interrupted sweep has done already is not done again: a run is known
by its settings, the code and the tables. The result is metrics/sweep/sweep.md and .json, and recipes/sweep.yaml, which
`python -m stages.recipe sweep` writes into params.yaml.
"""

from __future__ import annotations

import argparse
import logging
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import write_json, write_text
from stages.core.params import Settings, flat, load_params, read_yaml
from stages.finishing import dvc_queue
from stages.finishing.ended_runs import read_runs
from stages.finishing.grid import described, read_grids
from stages.finishing.plan import PARAMS, Plan, expected_seconds, plans
from stages.finishing.report import as_recipe, as_table
from stages.finishing.winner import Line, as_record, compare, winner

log = logging.getLogger(__name__)


def run_missing(missing: Sequence[Plan], workers: int) -> list[str]:
    """Queue the experiments that wait there no more, wait for all, and say which of them failed."""
    known = dvc_queue.tasks()
    for plan in missing:
        if plan.name not in known.pending:
            dvc_queue.put(plan.name, plan.changes, known)
    dvc_queue.start(workers)
    return dvc_queue.wait([plan.name for plan in missing], workers)


def is_up_to_date() -> bool:
    """Whether the working folder has what `dvc repro` would make of it."""
    done = subprocess.run([sys.executable, "-m", "dvc", "status", "--quiet", "--with-deps", "evaluate"])
    return done.returncode == 0 and paths.ROW_SCORES.is_file()


def announcement(planned: Sequence[Plan], missing: Sequence[Plan], seconds: float | None) -> str:
    """How much there is to do, in words."""
    there = len(planned) - len(missing)
    if not missing:
        return f"sweep: all {there} runs are there"
    hours, minutes = divmod(math.ceil((seconds or 0) / 60), 60)
    expected = f"training takes about {hours} h {minutes} min" if seconds else "no training was timed on this machine"
    listed = "\n".join(f"  {described(plan.changes)}" for plan in missing)
    return f"sweep: {len(missing)} runs to do, {there} are there; {expected}\n{listed}"


def write_results(
    name: str,
    grids: Sequence[Mapping[str, Sequence[Any]]],
    lines: Sequence[Line],
    failed: Sequence[str],
    objective: str,
) -> None:
    """Write the table and the recipe, and print the former."""
    chosen = winner(lines)
    present = dict(flat(read_yaml(PARAMS)))
    recipe = as_recipe(chosen, tried_values(grids, present), differing(present), len(lines), objective)
    table = as_table(lines, chosen, objective, failed)
    write_text(paths.RECIPES / f"{name}.yaml", recipe)
    write_text(paths.SWEEPS / f"{name}.md", table)
    records = [as_record(line, chosen=line is chosen) for line in lines]
    write_json(paths.SWEEPS / f"{name}.json", {"objective": objective, "runs": records, "failed": list(failed)})
    print(table)
    print(f"{paths.SWEEPS / name}.md has this table, and `python -m stages.recipe {name}` writes what was chosen")


def tried_values(grids: Sequence[Mapping[str, Sequence[Any]]], present: Settings) -> dict[str, list[Any]]:
    """The values of each key of the grids, each once, the present one first."""
    tried = {key: [present[key]] for grid in grids for key in grid}
    for key, value in ((key, value) for grid in grids for key, values in grid.items() for value in values):
        if value not in tried[key]:
            tried[key].append(value)
    return tried


def differing(present: Settings) -> Settings:
    """What params.yaml has otherwise than the sample's recipe: applying a recipe that is silent on it takes it back."""
    sample = dict(flat(read_yaml(paths.RECIPES / "sample.yaml")))
    return {key: present[key] for key in sample if key in present and present[key] != sample[key]}


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Try settings; choose by half of dev, and tell the gain by the other.")
    parser.add_argument("--grids", type=Path, default=Path("sweep.yaml"), help="the lists to try; default: sweep.yaml")
    parser.add_argument("--name", default="sweep", help="of the recipe and the table; default: sweep")
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side, each on GPUs of its own; default: 1")
    parser.add_argument("--dry-run", action="store_true", help="say what there is to do, and do nothing")
    arguments = parser.parse_args(argv)
    params = load_params(PARAMS)
    grids = read_grids(arguments.grids)
    planned = plans(grids, str(arguments.grids), is_up_to_date=is_up_to_date())
    ended = dvc_queue.ended()
    missing = [plan for plan in planned if plan.name and plan.name not in ended]
    log.info(announcement(planned, missing, expected_seconds(missing, params)))
    if arguments.dry_run:
        return
    failed = run_missing(missing, arguments.jobs) if missing else []
    if planned[0].name in failed:
        raise UserError(f"the run without changes failed; `dvc queue logs {planned[0].name}` says why")
    runs = read_runs([plan for plan in planned if plan.name not in failed], dvc_queue.ended(), params)
    lines = compare(runs)
    write_results(arguments.name, grids, lines, failed, params.evaluate.objective)


if __name__ == "__main__":
    run_stage(main)
