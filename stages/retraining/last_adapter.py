"""Trains the adapter of all rows, dev among them, as far as dev found best before."""

from __future__ import annotations

import logging

import pandas as pd

from stages.core import paths
from stages.core.files import read_json, remove
from stages.core.fingerprint import stage_sources
from stages.core.params import Params
from stages.corpus.tables import AUGMENTED_COLUMNS, read_table, references
from stages.training.checkpoints import run_folder, shared_checkpoint
from stages.training.data import training_data
from stages.training.objectives import OBJECTIVES
from stages.training.processes import Processes
from stages.training.schedule import make_schedule
from stages.training.session import (
    build_trainer,
    decisive,
    load_trainable_base,
    train_from,
    with_lanes,
    write_adapter,
)

logger = logging.getLogger(__name__)


def dev_as_training(dev: pd.DataFrame) -> pd.DataFrame:
    """The dev table as rows of a merged one; a row with several references stands there once with each."""
    rows = [
        {"fname": f"{fname}.ref{number}", "dialogue": dialogue, "summary": reference, "source": "dev"}
        for fname, dialogue, given in zip(dev["fname"], dev["dialogue"], references(dev), strict=True)
        for number, reference in enumerate(given, start=1)
    ]
    return pd.DataFrame(rows, columns=AUGMENTED_COLUMNS, dtype="str").fillna("")


def refit(params: Params, processes: Processes) -> None:
    """Train, from the last checkpoint on where there is one."""
    params = with_lanes(params, processes)
    manifest, logged = read_json(paths.MANIFEST), read_json(paths.TRAINING_LOG / "metrics.json")
    best, steps = logged["best"]["step"], make_schedule(logged["rows"], params.train).steps
    inputs = [paths.MERGED, paths.DEV, paths.MANIFEST, *stage_sources("refit")]
    run = run_folder({**decisive(params), "refit": [best, steps]}, inputs)
    checkpoint = shared_checkpoint(run, processes)
    if checkpoint:
        logger.info("Going on from %s of an interrupted training", checkpoint.name)
    train, dev = read_table(paths.MERGED, "train"), read_table(paths.DEV, "dev")
    data = training_data(params, manifest, pd.concat([train, dev_as_training(dev)], ignore_index=True), dev.head(0))
    objective = OBJECTIVES["cross_entropy"]
    base = load_trainable_base(params, processes)
    trainer = build_trainer(params, data, base, run, objective, share=best / steps)
    train_from(trainer, checkpoint)
    if not processes.first:
        return
    ending = (
        f"Ended after step {trainer.state.global_step}, as step {best} of {steps} was best in the run that it follows. "
        "It learned dev too, so it has no dev score of its own."
    )
    write_adapter(paths.REFIT, trainer, data, params, manifest, ending)
    remove(run)
