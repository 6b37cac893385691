"""What the runs of a sweep scored, each as its commit has it in Git."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from stages.core import paths
from stages.core.errors import UserError
from stages.core.params import Params, Settings
from stages.core.revisions import open_revision
from stages.core.training_speeds import LOSSES
from stages.finishing.grid import described
from stages.finishing.plan import Plan, steps_of
from stages.finishing.winner import Run, objective_of
from stages.scoring.row_scores import RowScore, from_csv, other_rows

Read = Callable[[Path], bytes]
"""A file's content in a run."""


def read_runs(plans: Sequence[Plan], commits: Mapping[str, str], params: Params) -> list[Run]:
    """The runs of a sweep, which all scored the same dialogues.

    Args:
        commits: of the experiments, by name.

    Raises:
        UserError: one did not, or has no scores.
    """
    runs, first = list[Run](), dict[str, RowScore]()
    for plan in plans:
        what = described(plan.changes)
        read = open_revision(commits[plan.name]).read if plan.name else Path.read_bytes
        try:
            run, rows = read_run(plan.changes, read, params)
        except FileNotFoundError as error:
            remedy = f"`dvc exp remove {plan.name}`" if plan.name else "`dvc repro`"
            raise UserError(f"{what}: has no {error.args[-1]}; type {remedy} and sweep again") from None
        first = first or rows
        if others := other_rows(first, rows):
            raise UserError(f"{what}: scored other dialogues of dev than the run without changes, first {others[0]}")
        runs.append(run)
    return runs


def read_run(changes: Settings, read: Read, params: Params) -> tuple[Run, dict[str, RowScore]]:
    """What a run scored on each dialogue of dev, as one number and as it stands in its commit.

    Raises:
        UserError: its scores are by another analyzer of morphemes than params.yaml has.
    """
    rows, analyzer = from_csv(read(paths.ROW_SCORES).decode())
    if analyzer != params.evaluate.morphemes:
        raise UserError(
            f"{described(changes)}: scored by {analyzer}; set evaluate.morphemes: {analyzer} in params.yaml"
        )
    dev = dict(rows.get("dev", {}))
    batch = int(changes.get("train.batch_size", params.train.batch_size))
    steps = steps_of(read(paths.TRAIN_METRICS / LOSSES).decode())
    scores = [objective_of(row.finals, params.evaluate.objective) for row in dev.values()]
    shape = json.loads(read(paths.EVAL_METRICS))["dev"]
    return Run(changes, scores, steps * batch, shape["repeats"], shape["length_ratio"]), dev
