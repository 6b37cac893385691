"""Trains the adapter of one fold, as `stages.train` trains the one of all rows.

Its best step is chosen on dev, as there: the rows of the fold choose nothing, so that what the adapter writes of them
is as good as what it writes of any new dialogue.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path

from stages.core import paths
from stages.core.files import read_json, remove
from stages.core.fingerprint import stage_sources
from stages.core.params import Params
from stages.corpus.folds import without_fold
from stages.corpus.tables import read_table
from stages.training.checkpoints import resuming, run_folder
from stages.training.data import training_data
from stages.training.objectives import OBJECTIVES
from stages.training.session import (
    best_on_dev,
    build_trainer,
    decisive,
    load_trainable_base,
    refuse_what_cannot_run,
    train_from,
    write_adapter,
)

ADAPTER = "adapter"
"""What a fold's folder of checkpoints holds in their place once it is trained."""

logger = logging.getLogger(__name__)


def fold_folder(params: Params, number: int) -> Path:
    """Where a fold is trained, and its adapter waits for the others."""
    settings = {
        **decisive(params),
        "fold": [number, params.folds.n, params.check.near_duplicate_threshold],
    }
    return run_folder(settings, [paths.MERGED, paths.DEV, paths.MANIFEST, *stage_sources("folds")])


def train_fold(params: Params, folds: Mapping[str, int], number: int) -> None:
    """Train a fold, from its last checkpoint on where there is one; one that is trained is left as it is.

    Args:
        folds: the fold of each original row, by its fname.
    """
    run = fold_folder(params, number)
    refuse_what_cannot_run(params)
    with resuming(run) as checkpoint:
        if not (run / ADAPTER).is_dir():
            _train(params, folds, number, run, checkpoint)
        for path in run.glob("checkpoint-*"):
            remove(path)


def _train(params: Params, folds: Mapping[str, int], number: int, run: Path, checkpoint: Path | None) -> None:
    train, dev = read_table(paths.MERGED, "train"), read_table(paths.DEV, "dev")
    kept = without_fold(train, folds, number, params.check.near_duplicate_threshold)
    held_out = list(folds.values()).count(number)
    title = f"Fold {number + 1} of {params.folds.n}"
    logger.info("%s: %d original rows held out, %d rows to learn", title, held_out, len(kept))
    base = read_json(paths.MANIFEST)
    data = training_data(params, base, kept, dev)
    trainer = build_trainer(params, data, load_trainable_base(params), run, OBJECTIVES["cross_entropy"])
    train_from(trainer, checkpoint)
    ending = f"{title}, with {held_out} original rows held out. {best_on_dev(trainer, data)}"
    write_adapter(run / ADAPTER, trainer, data, params, base, ending)
