"""Which GPUs a stage works on: all that are visible, or those that an experiment of DVC's queue takes for itself."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import lock_descriptor

from stages.core.errors import UserError
from stages.core.params import Decoding, Params
from stages.core.paths import project_root

TAKEN = "GPUS_TAKEN"
"""Is set in the environment of a stage that has taken GPUs, and of what it starts."""

logger = logging.getLogger(__name__)


def visible_gpus() -> list[str]:
    """The names by which CUDA_VISIBLE_DEVICES would show each visible GPU alone; none on a CPU."""
    import torch  # takes seconds, and not every stage that asks for GPUs in the end needs one

    count = torch.cuda.device_count()
    names = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    return (names.split(",") if names else [str(number) for number in range(count)])[:count]


def gpus_that_write(decoding: Decoding) -> list[str]:
    """The visible GPUs that `decoding.gpus` lets write summaries, the first ones; none on a CPU.

    Raises:
        UserError: there are some, but not so many.
    """
    visible = visible_gpus()
    return visible if decoding.gpus == "auto" else _first(visible, decoding.gpus, "decoding.gpus")


def take_gpus(params: Params) -> None:
    """Take `gpus_per_experiment` GPUs until this process ends, if it runs in one of DVC's copies of the repository.

    Queued and temporary experiments run in copies. A stage of one waits until so many GPUs are free, and begins anew
    with these alone visible: a library that is imported already may have counted all of them.
    It is to be called before anything else is done. On a CPU, and in the repository itself, nothing happens.

    Raises:
        UserError: there are not so many.
    """
    count = params.gpus_per_experiment
    if not count or TAKEN in os.environ or project_root() == Path.cwd().resolve():
        return
    gpus = _gpus_of_this_machine()
    if not gpus:
        return
    _first(gpus, count, "gpus_per_experiment")
    taken = ",".join(hold(gpus, count, lock_folder()))
    sys.stdout.flush()
    sys.stderr.flush()
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": taken, TAKEN: taken}
    os.execve(sys.executable, [sys.executable, *sys.orig_argv[1:]], environment)


def lock_folder() -> Path:
    """Where this user's locks of this machine's GPUs are."""
    return Path(tempfile.gettempdir()) / f"gpus-of-experiments-{os.getuid()}"


def hold(gpus: Sequence[str], count: int, folder: Path, seconds: float = 1) -> list[str]:
    """Lock as many of these GPUs as soon as they are free, until this process ends in whatever way.

    Processes take turns, so that one that waits for several gets them.

    Args:
        folder: holds a file for each GPU, whose lock its holder has; what the process executes keeps it.
        seconds: between two looks at what is free.

    Returns:
        Their names, in the order of `gpus`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    turn = _open(folder / "turn")
    held: list[str] = []
    waits = not lock_descriptor(turn, blocking=False)
    if waits:
        logger.info("Waiting: other experiments have the GPUs, and some wait for one before this")
        lock_descriptor(turn, poll_interval=seconds)
    while True:
        for gpu in gpus:
            if gpu not in held and len(held) < count:
                descriptor = _open(folder / gpu.replace("/", "_"))
                if lock_descriptor(descriptor, blocking=False):
                    os.set_inheritable(descriptor, True)
                    held.append(gpu)
                else:
                    os.close(descriptor)
        if len(held) == count:
            os.close(turn)
            return sorted(held, key=gpus.index)
        if not waits:
            logger.info("Waiting: other experiments have the GPUs, and %d of %d are free", len(held), count)
            waits = True
        time.sleep(seconds)


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT, 0o600)


def _gpus_of_this_machine() -> list[str]:
    """The UUIDs of the GPUs that CUDA_VISIBLE_DEVICES shows; none without a driver.

    The driver's own program is asked, as CUDA would count them once and for all in this process.
    """
    command = ["nvidia-smi", "--query-gpu=index,uuid", "--format=csv,noheader"]
    try:
        listed = subprocess.run(command, capture_output=True, text=True)
    except OSError:
        return []
    if listed.returncode:
        return []
    uuids = dict(line.split(", ") for line in listed.stdout.split("\n") if line)
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    return list(uuids.values()) if visible is None else [uuids.get(name, name) for name in visible.split(",") if name]


def _first(gpus: list[str], count: int, parameter: str) -> list[str]:
    if gpus and count > len(gpus):
        raise UserError(f"params.yaml: {parameter} = {count}: allowed: at most {len(gpus)}, the GPUs that are visible")
    return gpus[:count]
