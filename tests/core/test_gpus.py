from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from stages.core import gpus
from stages.core.errors import UserError
from stages.core.gpus import gpus_that_write, hold, take_gpus, visible_gpus
from stages.core.params import Params, load_params

ROOT = Path(__file__).parents[2]

HOLDER = """
import sys, time
from pathlib import Path
from stages.core.gpus import hold
print(*hold(sys.argv[2].split(), int(sys.argv[3]), Path(sys.argv[1]), seconds=0.01), flush=True)
time.sleep(600)
"""
DRIVER = """#!/bin/sh
echo "0, GPU-a"
echo "1, GPU-b"
"""
"""As nvidia-smi answers."""
STAGE = """
import os
from pathlib import Path
from stages.core import gpus
from stages.core.params import load_params
print("begins", flush=True)
gpus.take_gpus(load_params(Path(os.environ["PARAMS"])))
print(os.environ.get("CUDA_VISIBLE_DEVICES", "all"), flush=True)
"""


class Holder:
    """A process that takes GPUs and keeps them."""

    def __init__(self, folder: Path, names: str, count: int) -> None:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", HOLDER, str(folder), names, str(count)]
        self.process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)

    def took(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> None:
        self.process.kill()
        self.process.wait()


def params(count: int = 1) -> Params:
    return load_params(ROOT / "params.yaml").model_copy(update={"gpus_per_experiment": count})


def test_each_takes_a_free_gpu_and_one_that_finds_none_waits_until_a_holder_dies(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first, second = Holder(tmp_path, "a b", 1), Holder(tmp_path, "a b", 1)
    try:
        assert {first.took(), second.took()} == {"a", "b"}
        third, fourth = Holder(tmp_path, "a b", 1), Holder(tmp_path, "a b", 1)
        time.sleep(0.5)
        assert third.process.poll() is fourth.process.poll() is None
        first.end()
        second.end()
        assert {third.took(), fourth.took()} == {"a", "b"}
    finally:
        for each in (first, second, third, fourth):
            each.end()


def test_one_that_wants_two_gets_them_before_those_that_come_later(tmp_path: Path) -> None:
    first = Holder(tmp_path, "a b", 1)
    assert first.took() == "a"
    both = Holder(tmp_path, "a b", 2)
    while not (tmp_path / "b").exists():
        time.sleep(0.01)
    later = Holder(tmp_path, "a b", 1)
    try:
        time.sleep(0.2)
        first.end()
        assert both.took() == "a b"
        both.end()
        assert later.took() in ("a", "b")
    finally:
        for each in (first, both, later):
            each.end()


def test_what_waits_says_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    holder = Holder(tmp_path, "a", 1)
    assert holder.took() == "a"
    caplog.set_level("INFO")
    releasing = subprocess.Popen(["sh", "-c", f"sleep 0.3; kill -9 {holder.process.pid}"])
    assert hold(["a"], 1, tmp_path, seconds=0.01) == ["a"]
    releasing.wait()
    holder.end()
    assert [record.getMessage() for record in caplog.records] == [
        "Waiting: other experiments have the GPUs, and 0 of 1 are free"
    ]


def stage(folder: Path, root: Path, count: int = 1, **more: str) -> subprocess.CompletedProcess[str]:
    """What a stage with two GPUs prints, in a folder that is, or is a copy of, the repository `root`."""
    tools = folder / "tools"
    tools.mkdir(exist_ok=True)
    (tools / "nvidia-smi").write_text(DRIVER)
    (tools / "nvidia-smi").chmod(0o755)
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    (folder / "params.yaml").write_text(
        text.replace("gpus_per_experiment: 1", f"gpus_per_experiment: {count}"), encoding="utf-8"
    )
    (folder / "stage.py").write_text(STAGE)
    environment = {name: value for name, value in os.environ.items() if name != "CUDA_VISIBLE_DEVICES"}
    environment |= {
        "PATH": f"{tools}:{os.environ['PATH']}",
        "PYTHONPATH": str(ROOT),
        "TMPDIR": str(folder),
        "DVC_ROOT": str(root),
        "PARAMS": "params.yaml",
        **more,
    }
    return subprocess.run([sys.executable, "stage.py"], cwd=folder, env=environment, capture_output=True, text=True)


def test_a_queued_stage_begins_anew_with_the_gpus_that_it_took(tmp_path: Path) -> None:
    other = tmp_path / "repository"
    assert stage(tmp_path, other).stdout == "begins\nbegins\nGPU-a\n"
    assert stage(tmp_path, other, 2).stdout == "begins\nbegins\nGPU-a,GPU-b\n"
    assert stage(tmp_path, other, CUDA_VISIBLE_DEVICES="1").stdout == "begins\nbegins\nGPU-b\n"
    assert stage(tmp_path, other, GPUS_TAKEN="GPU-b").stdout == "begins\nall\n", "what a stage started"
    assert stage(tmp_path, other, CUDA_VISIBLE_DEVICES="").stdout == "begins\n\n", "no GPU"
    assert stage(tmp_path, other, 0).stdout == "begins\nall\n", "shared"
    assert stage(tmp_path, tmp_path).stdout == "begins\nall\n", "in the workspace"
    folder = tmp_path / f"gpus-of-experiments-{os.getuid()}"
    holder = Holder(folder, "GPU-a", 1)
    assert holder.took() == "GPU-a"
    assert stage(tmp_path, other).stdout == "begins\nbegins\nGPU-b\n"
    holder.end()
    refused = stage(tmp_path, other, 3).stderr
    assert "params.yaml: gpus_per_experiment = 3: allowed: at most 2, the GPUs that are visible" in refused


def test_without_a_gpu_nothing_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DVC_ROOT", str(tmp_path.parent))
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(gpus, "lock_folder", lambda: tmp_path / "locks")
    take_gpus(params())
    assert not (tmp_path / "locks").exists()


def test_as_many_as_asked_for_write(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpus, "visible_gpus", lambda: ["0", "1", "2"])
    decoding = params().decoding
    assert decoding.gpus == "auto"
    assert gpus_that_write(decoding) == ["0", "1", "2"]
    assert gpus_that_write(decoding.model_copy(update={"gpus": 2})) == ["0", "1"]
    with pytest.raises(UserError, match=r"decoding\.gpus = 4: allowed: at most 3"):
        gpus_that_write(decoding.model_copy(update={"gpus": 4}))
    monkeypatch.setattr(gpus, "visible_gpus", list)
    assert gpus_that_write(decoding.model_copy(update={"gpus": 4})) == []


@pytest.mark.parametrize(
    ("visible", "count", "names"), [(None, 2, ["0", "1"]), ("3,5", 2, ["3", "5"]), ("", 0, []), ("GPU-a", 1, ["GPU-a"])]
)
def test_visible_gpus(visible: str | None, count: int, names: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert visible_gpus() == names
