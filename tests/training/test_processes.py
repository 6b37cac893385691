from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.core.params import load_params
from stages.training.processes import processes_for
from tests.tiny_project import ROOT

TOGETHER = """
import os, sys, time
from pathlib import Path
import torch
from stages.core.errors import UserError, run_stage
from stages.core.params import load_params
from stages.training import processes
from stages.training.gradients import Gradients

processes.processes_for = lambda train, visible: 2  # as if there were two GPUs; on a CPU none has one of its own

def learn(all_of_them):
    # Buckets of 16 MiB: the second weight fills one. The second process has no micro-batch.
    weights = [torch.nn.Parameter(torch.ones(size)) for size in (3, 2**22, 5)]

    def micro_batch(factor):
        loss = factor * sum(weight[0] for weight in weights[: 3 if factor < 4 else 2])
        loss.backward()
        return loss.detach()

    gradients = Gradients(weights, all_of_them, exact=False)
    for _ in range(2):
        batches = [lambda factor=factor: micro_batch(factor) for factor in (1.0, 2.0, 4.0)]
        assert gradients.add_up([batches, []]).item() == 3 + 6 + 8
        assert [weight.grad[0].item() for weight in weights] == [7.0, 7.0, 3.0]
        for weight in weights:
            weight.grad = None

def main():
    with processes.together(load_params(Path("params.yaml")).train, "together") as all_of_them:
        rank = all_of_them.rank
        Path(f"{rank}.part").write_text(str(os.getpid()))
        Path(f"{rank}.part").rename(f"{rank}.pid")
        assert all_of_them.from_first(lambda: rank) == 0
        assert all_of_them.least(3.0 - rank) == 2.0
        learn(all_of_them)
        if rank == 1:
            WHAT_THE_SECOND_DOES
        all_of_them.wait()
    print("end", rank)

run_stage(main)
"""


def command(folder: Path, second: str) -> subprocess.Popen[str]:
    """A stage that two processes run, the second started by the first."""
    (folder / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    (folder / "together.py").write_text(TOGETHER.replace("WHAT_THE_SECOND_DOES", second))
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}", "OMP_NUM_THREADS": "1", "TMPDIR": str(folder)}
    run = [sys.executable, "-m", "together"]
    return subprocess.Popen(run, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_how_many_train() -> None:
    train = load_params(ROOT / "params.yaml").train

    def count(visible: int, **changed: int | str) -> int:
        return processes_for(train.model_copy(update={"gpus": "auto", "batch_size": 6, **changed}), visible)

    assert [count(visible) for visible in (0, 1, 4, 8)] == [1, 1, 4, 6]
    assert [count(0, gpus=1), count(4, gpus=2)] == [1, 2]
    with pytest.raises(UserError, match=r"^params\.yaml: train\.gpus = 4: 2 GPUs are visible; lower it, or set auto$"):
        count(2, gpus=4)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("second", "code", "error"),
    [
        ("pass", 0, ""),
        (
            "raise UserError('params.yaml: train.memory = 1: too little')",
            1,
            "params.yaml: train.memory = 1: too little",
        ),
        ("os.kill(os.getpid(), 9)", 1, "process 1 ended: SIGKILL"),
    ],
    ids=["well", "by a mistake", "killed"],
)
def test_however_one_ends_all_do_with_one_line(second: str, code: int, error: str, tmp_path: Path) -> None:
    process = command(tmp_path, second)
    out, said = process.communicate()
    assert (process.returncode, said) == (code, f"error: {error}\n" if error else "")
    assert out == ("" if error else "end 0\n")
    assert not list(tmp_path.glob("process-*"))
    pid = int((tmp_path / "1.pid").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


@pytest.mark.slow
def test_the_others_end_with_the_first(tmp_path: Path) -> None:
    process = command(tmp_path, "time.sleep(600)")
    while not (tmp_path / "1.pid").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    pid = int((tmp_path / "1.pid").read_text())
    while Path(f"/proc/{pid}").exists() and "Z" not in Path(f"/proc/{pid}/stat").read_text().split()[2]:
        time.sleep(0.01)
