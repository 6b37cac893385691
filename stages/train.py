"""Train the QLoRA adapter: `python -m stages.train` writes models/adapter and models/training.

Run again after an interruption, it goes on from the last checkpoint and ends in the same weights. After a change of
parameters, data, libraries or of its own code it begins anew. It trains on all visible GPUs; on those of several hosts
with `torchrun --nnodes 2 --nproc-per-node 8 ... -m stages.train` on each.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

from dvclive import Live

from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import read_json, remove, replacing, write_json
from stages.core.fingerprint import stage_sources
from stages.core.gpus import take_gpus
from stages.core.params import Params, load_params
from stages.core.shared_folder import remove_unused
from stages.core.training_speeds import keep_speed
from stages.corpus.tables import references
from stages.training.checkpoints import resuming, run_folder
from stages.training.data import read_training_data
from stages.training.machine import describe_machine
from stages.training.objectives import OBJECTIVES
from stages.training.preview import Preview
from stages.training.processes import Processes, together
from stages.training.session import (
    best_on_dev,
    build_trainer,
    decisive,
    load_trainable_base,
    refuse_what_cannot_run,
    train_from,
    with_lanes,
    write_adapter,
)
from stages.training.tracking import TrackWithLive

logger = logging.getLogger(__name__)


def train(params: Params, manifest: dict[str, Any], run: Path, checkpoint: Path | None, processes: Processes) -> None:
    """Train, from a checkpoint on where there is one; the first process writes.

    Args:
        manifest: of the base model.
        run: the folder of the checkpoints.
    """
    data = read_training_data(params, manifest)
    base = load_trainable_base(params, processes)
    objective = OBJECTIVES["cross_entropy"]
    if not processes.first:
        train_from(build_trainer(params, data, base, run, objective), checkpoint)
        return
    preview = Preview(
        data.builder,
        data.dev["fname"].tolist(),
        data.dev["dialogue"].tolist(),
        references(data.dev),
        n=params.train.preview_samples,
        max_new_tokens=params.train.preview_max_new_tokens,
        batch_size=params.train.batch_size,
        folder=run / "previews",
    )
    remove(paths.SPEED)
    with replacing(paths.TRAINING_LOG) as logs, Live(str(logs), dvcyaml=False, save_dvc_exp=False) as live:
        callbacks = [TrackWithLive(live)]
        trainer = build_trainer(params, data, base, run, objective, preview=preview, callbacks=callbacks)
        train_from(trainer, checkpoint)
        live.log_metric("best/step", trainer.state.best_global_step, plot=False)
        live.log_metric("best/eval_loss", trainer.state.best_metric, plot=False)
        live.log_metric("rows", len(data.rows), plot=False)
        preview.copy_to(logs / "previews")
        write_json(logs / "machine.json", describe_machine(processes.count))
    write_adapter(paths.ADAPTER, trainer, data, params, manifest, best_on_dev(trainer, data))
    if base.speed.steps:
        report = base.speed.report()
        write_json(paths.SPEED, report)
        keep_speed(report)
        logger.info(
            "%s; the rate is %.2f TFLOP/s, and a token takes 4 FLOP for each of %s weights",
            *(base.speed.describe(), base.rate / 1e12, f"{base.speed.weights:,}"),
        )


def main() -> None:
    params = load_params()
    take_gpus(params)
    with together(params.train, "stages.train") as processes:
        refuse_what_cannot_run(params)
        params = with_lanes(params, processes)
        inputs = [paths.MERGED, paths.DEV, paths.MANIFEST, *stage_sources("train")]
        run = run_folder(decisive(params), inputs)
        with resuming(run, processes) as checkpoint:
            train(params, read_json(paths.MANIFEST), run, checkpoint, processes)
        if processes.first:
            remove_unused(run)  # one that waits for it finds the last checkpoint, and has nothing left to train


if __name__ == "__main__":
    run_stage(main)
