"""Several processes train as one does: on the CPU to the last bit, whichever number of them a training began with."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.context import ForkServerContext
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from stages import train
from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import read_json
from stages.training.processes import PeerEnded
from stages.training.trainer import SummaryTrainer
from tests.test_train import CHECKPOINTS, outputs
from tests.tiny_project import configure

MACHINE = "models/training/machine.json"


def four_lanes() -> None:
    """A project whose training draws dropout, and has a last step of fewer rows than lanes: 4, 4, 4 and 2."""
    configure(lora={"dropout": 0.2}, train={"gradient_lanes": 4, "preview_samples": 1})


def train_alone() -> None:
    four_lanes()
    torch.set_num_threads(1)
    train.main()


def process(folder: Path, place: dict[str, str], fails_at: int | None) -> None:
    """One process of a training, as torchrun starts it; what it says goes to a file named by its rank."""
    torch.set_num_threads(1)
    os.chdir(folder)
    os.environ.pop("DVC_ROOT", None)
    os.environ.update(place)
    with Path(f"{place['RANK']}.log").open("wb") as said:
        os.dup2(said.fileno(), sys.stderr.fileno())
    step = SummaryTrainer.training_step

    def training_step(trainer: SummaryTrainer, *args: Any, **kwargs: Any) -> torch.Tensor:
        if trainer.state.global_step == fails_at:
            raise UserError("params.yaml: train.memory: too little here")
        return step(trainer, *args, **kwargs)

    SummaryTrainer.training_step = training_step  # type: ignore[method-assign, assignment]
    run_stage(train.main)


@dataclass
class Started:
    """Processes under way, in a folder."""

    folder: Path
    processes: list[BaseProcess]

    def end(self) -> list[int | None]:
        """Their exit codes."""
        for each in self.processes:
            each.join()
        return [each.exitcode for each in self.processes]

    def said(self, rank: int) -> str:
        return (self.folder / f"{rank}.log").read_text(encoding="utf-8")


def start(count: int, *, fails: tuple[int, int] | None = None, other_host: Path | None = None) -> Started:
    """Train in the working folder.

    Args:
        fails: a rank, and the step after which it meets a mistake of its user.
        other_host: a folder in which the second half of the processes works, as on a host of its own.
    """
    here = Path.cwd()
    folders = [here, other_host] if other_host else [here]
    on_a_host = count // len(folders)
    context = multiprocessing.get_context("forkserver")  # as the fixture of this name has set it up
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    processes = []
    for rank in range(count):
        place = {**common, "RANK": str(rank), "LOCAL_RANK": str(rank % on_a_host)}
        fails_at = fails[1] if fails and fails[0] == rank else None
        processes.append(context.Process(target=process, args=(folders[rank // on_a_host], place, fails_at)))
        processes[-1].start()
    return Started(here, list(processes))


def without_machine() -> dict[str, bytes]:
    return {name: content for name, content in outputs().items() if name != MACHINE}


@pytest.fixture
def whole(tiny_projects: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> dict[str, bytes]:
    """What one process ends in."""
    monkeypatch.chdir(tiny_projects(train_alone))
    return without_machine()


@pytest.fixture
def project(whole: dict[str, bytes], project_after: Callable[..., Path], forkserver: ForkServerContext) -> Path:
    return project_after(four_lanes)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_any_number_of_processes_ends_in_the_same_bytes(count: int, project: Path, whole: dict[str, bytes]) -> None:
    started = start(count)
    assert started.end() == [0] * count, started.said(0)
    assert without_machine() == whole
    assert read_json(paths.TRAINING_LOG / "machine.json")["processes"] == count
    assert [started.said(rank) for rank in range(1, count)] == [""] * (count - 1)
    assert f"Processes: {count}, which share 4 gradient lanes" in started.said(0)


@pytest.mark.slow
def test_killed_it_goes_on_with_another_number_of_processes(
    project: Path, whole: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    started = start(2)
    while not list(CHECKPOINTS.glob("*/checkpoint-2/complete.json")):
        assert all(each.is_alive() for each in started.processes), started.said(0)
        time.sleep(0.01)
    started.processes[1].kill()
    assert started.end() == [PeerEnded.CODE, -9]
    line = "error: another process of this training does not answer: "
    assert started.said(0).splitlines()[-1].startswith(line)
    assert "Traceback" not in started.said(0)
    assert not paths.ADAPTER.exists()

    # Alone, and with four processes on two hosts, of which one lacks the checkpoint.
    elsewhere, other_host = (tmp_path_factory.mktemp(name) for name in ("elsewhere", "other_host"))
    shutil.copytree(project, elsewhere, dirs_exist_ok=True)
    shutil.copytree(project, other_host, dirs_exist_ok=True, ignore=shutil.ignore_patterns(CHECKPOINTS.name))
    train.main()
    assert without_machine() == whole
    monkeypatch.chdir(elsewhere)
    started = start(4, other_host=other_host)
    assert started.end() == [0] * 4, started.said(0)
    assert "Going on from checkpoint-" in started.said(0)
    assert without_machine() == whole


@pytest.mark.slow
def test_a_mistake_in_one_process_is_said_once_and_ends_all(project: Path) -> None:
    started = start(2, fails=(1, 1))
    assert started.end() == [PeerEnded.CODE, 1]
    assert started.said(1) == "error: params.yaml: train.memory: too little here\n"
    assert "Traceback" not in started.said(0)


def test_more_gpus_than_are_visible_are_refused(tiny_project: Path) -> None:
    configure(train={"gpus": 64})
    with pytest.raises(UserError, match=r"params\.yaml: train\.gpus = 64: \d GPUs are visible; lower it, or set auto"):
        train.main()
    assert outputs() == {}
