from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from stages.core.shared_folder import alone_in, in_use, remove_kept, remove_later, remove_unused

ROOT = Path(__file__).parents[2]
WORKER = """
import logging, sys
from pathlib import Path
from stages.core.shared_folder import alone_in
logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stdout)
with alone_in(Path(sys.argv[1])):
    print("alone", flush=True)
    sys.stdin.read()
"""


@contextmanager
def worker(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that works in the folder until its standard input is closed."""
    command = [sys.executable, "-c", WORKER, str(folder)]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process
        process.kill()


def said(process: subprocess.Popen[str]) -> str:
    assert process.stdout
    return process.stdout.readline()


def test_a_second_process_waits_and_says_so(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with worker(folder) as second:
        assert said(second) == "alone\n"
        with worker(folder) as third:
            assert said(third) == f"Waiting for another process that does the same work, in {folder}\n"
            (folder / "result").write_text("done")
            second.kill()  # which lets go of the folder as any end does
            assert said(third) == "alone\n"
            remove_unused(folder)
            assert (folder / "result").read_text() == "done"
            assert third.stdin
            third.stdin.close()
            third.wait()
    remove_unused(folder)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_work_that_failed_leaves_what_it_had_and_no_empty_folder(tmp_path: Path, error: type[BaseException]) -> None:
    with pytest.raises(error), alone_in(tmp_path / "empty"):
        raise error
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(error), alone_in(tmp_path / "begun"):
        (tmp_path / "begun/checkpoint-2").mkdir()
        raise error
    assert (tmp_path / "begun/checkpoint-2").is_dir()


def test_a_folder_is_removed_once_nobody_uses_it(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with in_use(folder), in_use(folder):
        (folder / "adapter").mkdir()
        remove_unused(folder)
        assert (folder / "adapter").is_dir()
    remove_unused(folder)
    remove_unused(folder)
    assert list(tmp_path.iterdir()) == []


def test_what_is_kept_goes_when_it_is_no_longer_needed(tmp_path: Path) -> None:
    for name in ("done", "used", "begun"):
        with in_use(tmp_path / name):
            (tmp_path / name / "adapter").mkdir()
    remove_later(tmp_path / "done")
    remove_later(tmp_path / "used")
    with in_use(tmp_path / "used"):
        remove_kept(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["begun", "used"]
