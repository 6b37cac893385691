"""Train an adapter for each of `folds.n` parts of the training rows, on all the others: `python -m stages.folds`.

models/folds has them by number, and in rows.csv the fold of each original row. Folds are trained side by side where
several GPUs are visible, else one after the other, each in a process of its own: what it ends in depends on no other.
Run again after an interruption, a trained fold is kept, and the others go on from their last checkpoints. What was
trained is kept until `out_of_fold`, for which DVC has models/folds in its cache.
"""

from __future__ import annotations

import argparse
import logging
import shutil
import sys
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import pandas as pd

from stages.core import paths
from stages.core.child_process import end_with_parent
from stages.core.errors import run_stage
from stages.core.files import replacing
from stages.core.gpus import take_gpus, visible_gpus
from stages.core.params import Params, load_params
from stages.core.shared_folder import in_use, remove_later
from stages.corpus.folds import divide
from stages.corpus.tables import read_table, write_table
from stages.retraining.side_by_side import run_side_by_side

logger = logging.getLogger(__name__)


def train_all(params: Params, stack: ExitStack) -> list[Path]:
    """Train what is not trained yet; the adapters of all folds, which stay until the stack is closed."""
    from stages.retraining.fold import ADAPTER, fold_folder

    runs = [fold_folder(params, number) for number in range(params.folds.n)]
    for run in runs:
        stack.enter_context(in_use(run))
    new = {f"fold {number + 1}": number for number, run in enumerate(runs) if not (run / ADAPTER).is_dir()}
    if len(new) < len(runs):
        logger.info("%d of %d folds are trained already", len(runs) - len(new), len(runs))
    commands = {name: [sys.executable, "-m", "stages.folds", str(number)] for name, number in new.items()}
    run_side_by_side(commands, visible_gpus(), lambda name: runs[new[name]] / "log.txt", "Folds")
    return [run / ADAPTER for run in runs]


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Train an adapter for each fold.")
    parser.add_argument("number", nargs="?", type=int, help="train only this fold, as the stage has a process do")
    number = parser.parse_args(argv).number
    params = load_params()
    folds: dict[str, int] = {}
    if params.folds.n:
        train = read_table(paths.MERGED, "train")
        folds = divide(train, params.folds.n, params.seed, params.check.near_duplicate_threshold)
    else:
        logger.info("folds.n = 0: skipped, %s holds no adapters", paths.FOLDS)
    # What trains takes seconds to import, and a run without folds needs none of it.
    if number is not None:
        from stages.retraining.fold import train_fold

        end_with_parent()
        train_fold(params, folds, number)
        return
    if params.folds.n:
        take_gpus(params)
    with ExitStack() as stack:
        adapters = train_all(params, stack) if params.folds.n else []
        with replacing(paths.FOLDS) as target:
            target.mkdir()
            for number, adapter in enumerate(adapters):
                shutil.copytree(adapter, target / str(number))
            rows = pd.DataFrame({"fname": list(folds), "fold": [str(of) for of in folds.values()]}, dtype="str")
            write_table(rows, target / paths.FOLD_ROWS.name)
        for adapter in adapters:
            remove_later(adapter.parent)


if __name__ == "__main__":
    run_stage(main)
