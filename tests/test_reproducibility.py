"""The same commit gives the same bytes: from one clone to the next, and across a kill."""

from __future__ import annotations

import random
import subprocess
import time
from pathlib import Path

import pytest
from dvc.utils.serialize import dumps_yaml, parse_yaml_for_update

from tests.clone import Clone

pytestmark = pytest.mark.slow


def test_two_clones_end_in_the_same_lock(lock: bytes, tmp_path: Path) -> None:
    """The lock holds a hash of every output, the adapter's weights included."""
    second = Clone(tmp_path / "elsewhere")
    second.dvc("repro", PYTHONHASHSEED="7")
    assert second.bytes("dvc.lock") == lock


def test_the_lock_is_what_dvc_writes(lock: bytes) -> None:
    """To the byte: clones write it by other means, which take less time."""
    assert dumps_yaml(parse_yaml_for_update(lock.decode(), "dvc.lock")).encode() == lock


def test_a_killed_training_goes_on_and_ends_in_the_same_lock(lock: bytes, tmp_path: Path) -> None:
    clone = Clone(tmp_path / "killed")
    checkpoints = clone.folder / "models" / "checkpoints"

    def complete() -> int:
        return len(list(checkpoints.glob("*/checkpoint-*/complete.json")))

    for wanted in (1, 2):
        repro = subprocess.Popen(
            ["dvc", "repro"],
            cwd=clone.folder,
            env=clone.environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        while repro.poll() is None and complete() < wanted:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.3))
        assert repro.poll() is None, "killed before its end"
        repro.kill()
        repro.communicate(timeout=60)  # returns once all have ended
    log = clone.dvc("repro")
    assert "of an interrupted training" in log
    assert clone.bytes("dvc.lock") == lock
    assert not list(checkpoints.glob("*"))


def test_a_second_run_does_nothing_and_leaves_git_clean(finished: Clone) -> None:
    finished.restore()
    log = finished.dvc("repro")
    assert "Data and pipelines are up to date." in log
    assert "Running stage" not in log
    assert finished.git("status", "--porcelain") == ""


def test_a_run_changes_only_what_it_is_meant_to(finished: Clone) -> None:
    first = finished.git("rev-list", "--max-parents=0", "HEAD").strip()
    results = finished.git("rev-list", "--reverse", "HEAD").split()[1]
    changed = finished.git("diff", "--name-only", first, results).split()
    assert changed
    assert all(name == "dvc.lock" or name.startswith(("metrics/", "data/answers/")) for name in changed), changed


def test_a_fresh_git_clone_has_a_lock_that_dvc_accepts(finished: Clone, tmp_path: Path) -> None:
    finished.git("clone", "-q", str(finished.folder), str(tmp_path / "fresh"))
    done = subprocess.run(
        ["dvc", "repro", "--dry", "--allow-missing"],
        cwd=tmp_path / "fresh",
        env=finished.environment(),
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0
    assert "Running stage" not in done.stdout
