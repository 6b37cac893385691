"""Checkpoints of a training under way, in a folder named by all that decides its result."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import TRAINER_STATE_NAME

from stages.core.files import read_json, remove, replacing, write_json
from stages.core.fingerprint import fingerprint
from stages.core.paths import checkpoints_folder
from stages.core.shared_folder import alone_in
from stages.models import quantizers
from stages.training.processes import ALONE, Processes

COMPLETE = "complete.json"
LIBRARIES = ("accelerate", "peft", "torch", "transformers", "trl", *quantizers.LIBRARIES)

logger = logging.getLogger(__name__)


def run_folder(settings: dict[str, Any], files: Sequence[Path]) -> Path:
    """The checkpoint folder of the training that these settings, input files and libraries define."""
    return checkpoints_folder() / fingerprint(settings, files, LIBRARIES)


@contextmanager
def resuming(run: Path, processes: Processes = ALONE) -> Iterator[Path | None]:
    """Train in this folder while no other training does; yields the checkpoint to go on from, if there is one."""
    with alone_in(run) if processes.first else nullcontext():
        checkpoint = shared_checkpoint(run, processes)
        if checkpoint:
            logger.info("Going on from %s of an interrupted training", checkpoint.name)
        yield checkpoint


def last_checkpoint(run: Path) -> Path | None:
    """The latest checkpoint that is whole; those that a kill cut short, being written or deleted, are removed."""
    checkpoints = sorted(run.glob("checkpoint-*"), key=lambda path: int(path.name.rsplit("-", 1)[1]))
    for checkpoint in checkpoints:
        if not _is_whole(checkpoint):
            remove(checkpoint)
    return next((path for path in reversed(checkpoints) if path.is_dir()), None)


def shared_checkpoint(run: Path, processes: Processes) -> Path | None:
    """The latest checkpoint of the first process, in the folder that this one has for the run.

    Hosts that do not have it, for want of a folder that all share, get a copy.
    """
    found = processes.from_first(lambda: last_checkpoint(run))
    if found is None:
        return None
    checkpoint = run / found.name
    if processes.least(checkpoint.is_dir()):
        return checkpoint
    files = processes.from_first(lambda: {path.name: path.read_bytes() for path in found.iterdir()})

    def copy() -> None:
        if not checkpoint.is_dir():
            with replacing(checkpoint) as folder:
                folder.mkdir()
                for name, content in files.items():
                    (folder / name).write_bytes(content)

    processes.one_a_host_first(copy)
    return checkpoint


def is_last(checkpoint: Path) -> bool:
    """Whether training ended with this checkpoint, its steps all done or stopped early."""
    state = TrainerState.load_from_json(str(checkpoint / TRAINER_STATE_NAME))
    return bool(state.stateful_callbacks["TrainerControl"]["args"]["should_training_stop"])


class MarkComplete(TrainerCallback):  # type: ignore[misc]
    """Lists a checkpoint's files in it, once all are written."""

    def on_save(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        checkpoint = Path(args.output_dir) / f"checkpoint-{state.global_step}"
        write_json(checkpoint / COMPLETE, sorted(path.name for path in checkpoint.iterdir()))


def _is_whole(checkpoint: Path) -> bool:
    complete = checkpoint / COMPLETE
    return complete.is_file() and all((checkpoint / name).is_file() for name in read_json(complete))
