"""Several processes that train one adapter, each on a GPU of its own: how they start, agree and end together.

torch.distributed connects them. Where several GPUs are visible, the process that was started is the first and starts
the others; under `torchrun` or `accelerate launch` all are there already. Each trains as if it were alone, on all rows
of each step, but for what it asks of a `Processes`. So only these know of one another, and no library beside torch.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch._C._distributed_c10d import TCPStore

from stages.core.child_process import end_with_parent
from stages.core.errors import UserError
from stages.core.params import Train

T = TypeVar("T")


class PeerEnded(SystemExit):
    """Another process does not answer: most likely it has ended, and said why."""

    CODE = 75

    def __init__(self, reason: str) -> None:
        super().__init__(self.CODE)
        self.reason = reason


CPU = torch.device("cpu")
LONGEST_WAIT = timedelta(days=1)
"""For one another: a preview or a download of the first takes its time, and a process that dies is noticed at once."""
PATIENCE = 30.0
"""Seconds in which a process whose end was noticed is gone, and in which one whose GPU waits for it should notice."""
PLACE = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
"""The environment variables by which torchrun tells a process its place."""
STARTED = "TRAINING_STARTED_BY_FIRST"
"""The environment variable of a process that the first started."""


@dataclass(frozen=True)
class Processes:
    """The processes of a training, as one of them sees them; all must call a method, in the same order."""

    rank: int = 0
    count: int = 1
    local_rank: int = 0
    """Its place on its host, which is also the GPU that it uses."""

    @property
    def first(self) -> bool:
        """The one that writes, logs and shows progress."""
        return self.rank == 0

    def share(self, parts: int) -> slice:
        """Which of `parts`, a multiple of their count, are this process's: as many for each, in order.

        >>> [list(range(8))[Processes(rank, 4).share(8)] for rank in range(4)]
        [[0, 1], [2, 3], [4, 5], [6, 7]]
        """
        each = parts // self.count
        return slice(self.rank * each, (self.rank + 1) * each)

    def from_first(self, make: Callable[[], T]) -> T:
        """What the first process makes; the others wait for it."""
        made = [make() if self.first else None]
        if self.count > 1:
            with _listening():
                dist.broadcast_object_list(made, device=CPU)
        return made[0]  # type: ignore[return-value]

    def one_a_host_first(self, work: Callable[[], object]) -> None:
        """Do what leaves files for the others of a host, such as a download."""
        if self.local_rank == 0:
            work()
        self.wait()
        if self.local_rank:
            work()

    def least(self, value: float) -> float:
        """The least that any of them has."""
        tensor = torch.tensor(value, dtype=torch.float64)
        self._reduce(tensor, dist.ReduceOp.MIN)
        return tensor.item()

    def add(self, tensor: Tensor) -> None:
        """Add up, in place, a tensor in main memory that each has."""
        self._reduce(tensor, dist.ReduceOp.SUM)

    def gather(self, tensor: Tensor) -> list[Tensor]:
        """The tensors in main memory of all of them, equally large, by rank."""
        if self.count == 1:
            return [tensor]
        gathered = [torch.empty_like(tensor) for _ in range(self.count)]
        with _listening():
            dist.all_gather(gathered, tensor)
        return gathered

    def wait(self) -> None:
        """Go on when all are here."""
        self.add(torch.zeros(1))

    def _reduce(self, tensor: Tensor, kind: dist.ReduceOp.RedOpType) -> None:
        if self.count > 1:
            with _listening():
                dist.all_reduce(tensor, kind)


ALONE = Processes()


def processes_for(train: Train, visible: int) -> int:
    """How many processes train on one host: one for each GPU of `train.gpus`; of auto, none without a row in a step.

    Args:
        train: the section of params.yaml.
        visible: GPUs; on a CPU, 0.

    Raises:
        UserError: there are not so many.
    """
    if isinstance(train.gpus, str):
        return max(1, min(visible, train.batch_size))
    if train.gpus > max(1, visible):
        raise UserError(f"params.yaml: train.gpus = {train.gpus}: {visible} GPUs are visible; lower it, or set auto")
    return train.gpus


@contextmanager
def together(train: Train, stage: str) -> Iterator[Processes]:
    """Start the processes that train, or join those that are there; on leaving, all have come to the end.

    Args:
        train: the section of params.yaml.
        stage: the module that the others run, such as `stages.train`.

    Raises:
        UserError: not so many GPUs are visible, or another process ended, with its error.
    """
    if os.environ.keys() >= set(PLACE):
        try:
            with _joined() as processes:
                yield processes
        except PeerEnded as end:
            print(f"error: another process of this training does not answer: {end.reason}", file=sys.stderr)
            raise
        return
    count = processes_for(train, torch.cuda.device_count())
    if count == 1:
        yield ALONE
        return
    with _others(count, stage), _joined() as processes:
        yield processes


@contextmanager
def _joined() -> Iterator[Processes]:
    """Take the place that the environment names, as torchrun sets it."""
    # Without them accelerate and transformers take a training for one that is alone, and neither divide its rows nor
    # copy its model.
    rank, count, local_rank = (int(os.environ.pop(name)) for name in PLACE)
    if os.environ.pop(STARTED, None):
        end_with_parent()
    if rank:
        logging.getLogger().setLevel(logging.ERROR)
    gpus = torch.cuda.device_count()
    if gpus and local_rank >= gpus:
        raise UserError(f"torchrun --nproc-per-node: {local_rank + 1} or more: {gpus} GPUs are visible; lower it")
    device = torch.device("cuda", local_rank) if gpus else None
    if device:
        torch.cuda.set_device(device)
        os.environ["ACCELERATE_TORCH_DEVICE"] = str(device)  # it refuses a 4-bit base elsewhere
    if count == 1:
        yield ALONE
        return
    with _listening():
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if device else "gloo",
            rank=rank,
            world_size=count,
            timeout=LONGEST_WAIT,
            device_id=device,
        )
    processes = Processes(rank, count, local_rank)
    try:
        yield processes
        processes.wait()
    except BaseException:
        # What a GPU has begun to send is not waited for: the others may never take it.
        dist.distributed_c10d._abort_process_group()
        raise
    dist.destroy_process_group()


@contextmanager
def _listening() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # what torch.distributed raises is of this kind
        raise PeerEnded(str(error).splitlines()[0].split(". ")[0]) from None


@contextmanager
def _others(count: int, stage: str) -> Iterator[None]:
    """Run the other processes of this host; this one becomes the first."""
    # The first holds the store, so that its port is free.
    store = TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    place = {
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(store.port),
        "TORCHELASTIC_USE_AGENT_STORE": "True",
    }
    os.environ.update(place)
    others: list[_Other] = []
    ended = threading.Event()
    try:
        for rank in range(1, count):
            others.append(_Other([sys.executable, "-m", stage], rank))
        threading.Thread(target=_watch, args=(others, ended), daemon=True).start()
        os.environ.update(RANK="0", LOCAL_RANK="0")
        yield
    except PeerEnded as end:
        raise UserError(_first_failure(others) or f"another process does not answer: {end.reason}") from None
    finally:
        ended.set()
        for other in others:
            other.end()
        for name in place:
            os.environ.pop(name, None)


class _Other:
    """A process beside the first. What it says goes into a file, which outlasts it only to explain a failure."""

    def __init__(self, command: list[str], rank: int) -> None:
        with tempfile.NamedTemporaryFile(prefix=f"process-{rank}-", suffix=".log", delete=False) as log:
            self.log = Path(log.name)
            environment = {**os.environ, "RANK": str(rank), "LOCAL_RANK": str(rank), STARTED: "1"}
            self.process = subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=log, stderr=log)
        self.rank = rank
        self.explains = False

    def failure(self) -> str | None:
        """Why it ended, in one line; None while it runs, or where it ended well or because of another."""
        code = self.process.poll()
        if code in (None, 0, PeerEnded.CODE):
            return None
        said = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        if said and said[-1].startswith("error: "):
            return said[-1].removeprefix("error: ")
        self.explains = bool(said)
        last = said[-1].removeprefix(f"[rank{self.rank}]: ") if said else f"exit code {code}"  # torch's excepthook
        why = signal.Signals(-code).name if code < 0 else last
        return f"process {self.rank} ended: {why}" + (f"; {self.log} has what it said" if said else "")

    def end(self) -> None:
        self.process.kill()
        self.process.wait()
        if not self.explains:
            self.log.unlink(missing_ok=True)


def _failure(others: Sequence[_Other]) -> str | None:
    return next((line for other in others if (line := other.failure())), None)


def _first_failure(others: Sequence[_Other]) -> str | None:
    """Of the process whose end was noticed; the system may take a moment to clear it away."""
    latest = time.monotonic() + PATIENCE
    while not (line := _failure(others)) and time.monotonic() < latest:
        time.sleep(0.1)
    return line


def _watch(others: Sequence[_Other], ended: threading.Event) -> None:
    """End the first process where another has failed and it does not come to know of it, waiting on its GPU."""
    while not ended.wait(0.2):
        if line := _failure(others):
            if not ended.wait(PATIENCE):
                print(f"error: {line}", file=sys.stderr, flush=True)
                os._exit(1)
            return
