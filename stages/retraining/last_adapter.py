"""Trains the adapter of all rows, dev among them, as far as dev found best before."""

from __future__ import annotations

import pandas as pd

from stages.core import paths
from stages.core.files import read_json
from stages.core.fingerprint import stage_sources
from stages.core.params import Params
from stages.core.shared_folder import remove_unused
from stages.corpus.tables import AUGMENTED_COLUMNS, read_table, references
from stages.training.checkpoints import resuming, run_folder
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
    train, dev = read_table(paths.MERGED, "train"), read_table(paths.DEV, "dev")
    data = training_data(params, manifest, pd.concat([train, dev_as_training(dev)], ignore_index=True), dev.head(0))
    objective = OBJECTIVES["cross_entropy"]
    with resuming(run, processes) as checkpoint:
        base = load_trainable_base(params, processes)
        trainer = build_trainer(params, data, base, run, objective, share=best / steps)
        train_from(trainer, checkpoint)
        ended = trainer.state.global_step
        ending = (
            f"Ended after step {ended}, as step {best} of {steps} was best in the run that it follows. "
            "It learned dev too, so it has no dev score of its own."
        )
        if processes.first:
            write_adapter(paths.REFIT, trainer, data, params, manifest, ending)
    if processes.first:
        remove_unused(run)
