from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.retraining.side_by_side import run_side_by_side
from tests.tiny_project import ROOT

NOTES = """
import os, sys, time
from pathlib import Path
name, others = sys.argv[1], int(sys.argv[2])
Path(name).write_text(os.environ.get("CUDA_VISIBLE_DEVICES", "none"))
while len(list(Path().glob("fold*"))) < others:
    time.sleep(0.01)
print("done", name)
"""
"""Writes the GPU that it has into a file of its name, and waits until as many are at work."""


def commands(names: list[str], others: int) -> dict[str, list[str]]:
    return {name: [sys.executable, "-c", NOTES, name.replace(" ", "_"), str(others)] for name in names}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def log(name: str) -> Path:
    return Path("logs") / name / "log.txt"


def test_each_gpu_has_one_at_a_time(folder: Path) -> None:
    names = ["fold 1", "fold 2", "fold 3"]
    run_side_by_side(commands(names, 2), ["4", "GPU-7"], log, "Folds")
    devices = [(folder / name.replace(" ", "_")).read_text() for name in names]
    assert devices[:2] == ["4", "GPU-7"]
    assert devices[2] in ("4", "GPU-7")
    assert [log(name).read_text() for name in names] == [f"done {name.replace(' ', '_')}\n" for name in names]


@pytest.mark.parametrize(("devices", "seen"), [([], "none"), (["0"], "0")])
def test_on_one_device_they_come_one_after_the_other(
    devices: list[str], seen: str, folder: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    run_side_by_side(commands(["fold 1", "fold 2"], 1), devices, log, "Folds")
    assert (folder / "fold_2").read_text() == seen
    assert capfd.readouterr().out == "done fold_1\ndone fold_2\n"
    assert not (folder / "logs").exists()


def test_where_one_fails_the_others_end(folder: Path) -> None:
    waits = "from pathlib import Path; Path('pid').write_text(str(__import__('os').getpid())); input()"
    fails = (
        "import time\nfrom pathlib import Path\nwhile not Path('pid').exists(): time.sleep(0.01)\nraise SystemExit(3)"
    )
    both = {"fold 1": [sys.executable, "-c", waits], "fold 2": [sys.executable, "-c", fails]}
    with pytest.raises(UserError, match=r"fold 2: ended with exit code 3; logs/fold 2/log\.txt says why; what is done"):
        run_side_by_side(both, ["0", "1"], log, "Folds")
    with pytest.raises(ProcessLookupError):
        os.kill(int((folder / "pid").read_text()), 0)


def test_they_end_with_what_started_them_however_that_ends(folder: Path) -> None:
    child = (
        "import os, time\nfrom pathlib import Path\nfrom stages.core.child_process import end_with_parent\n"
        "end_with_parent()\nPath('pid.part').write_text(str(os.getpid()))\nPath('pid.part').rename('pid')\n"
        "time.sleep(600)"
    )
    parent = (
        "import sys\nfrom pathlib import Path\nfrom stages.retraining.side_by_side import run_side_by_side\n"
        f"run_side_by_side({{'fold 1': [sys.executable, '-c', {child!r}]}}, [], Path, 'Folds')"
    )
    process = subprocess.Popen([sys.executable, "-c", parent], env={**os.environ, "PYTHONPATH": str(ROOT)})
    while not (folder / "pid").exists():
        time.sleep(0.01)
    pid = int((folder / "pid").read_text())
    os.kill(pid, 0)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(500):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except FileNotFoundError:
            return
        if state == "Z":  # nobody in a container may reap it
            return
        time.sleep(0.01)
    raise AssertionError("it goes on")


def test_one_that_ends_by_itself_ends_well() -> None:
    child = "from stages.core.child_process import end_with_parent\nend_with_parent()"
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", child], stdin=subprocess.PIPE, env=environment)
    assert process.wait(60) == 0
