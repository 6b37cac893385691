from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from stages.core.append_log import AppendLog

ROOT = Path(__file__).parents[2]

FULL_DISK = """
import resource, signal, sys
from pathlib import Path
from stages.core.append_log import AppendLog

signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
log = AppendLog(Path(sys.argv[1]))
with log.locked():
    log.append("whole")
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))
    log.append("does not fit")
"""


def read(log: AppendLog) -> list[tuple[int, bytes]]:
    with log.locked():
        return list(log.read_new())


@pytest.mark.parametrize("durable", [False, True])
def test_each_reads_what_others_wrote_since(tmp_path: Path, durable: bool) -> None:
    one, two = (AppendLog(tmp_path / "folder/a.jsonl", durable) for _ in range(2))
    for number, log in enumerate([one, two, one], 1):
        read(log)
        with log.locked():
            log.append(f"줄 {number}")
    assert read(one) == []
    assert read(two) == [(3, "줄 3".encode())]
    with one.locked():
        one.replace(["다른 줄"])
    assert read(two) == [(1, "다른 줄".encode())]


def test_torn_last_line_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_bytes("하나\n둘".encode()[:-1])
    assert read(AppendLog(path)) == [(1, "하나".encode())]
    assert path.read_bytes() == "하나\n".encode()


def test_line_that_the_disk_took_a_part_of_is_an_error_and_cut_off_later(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    process = subprocess.run(
        [sys.executable, "-c", FULL_DISK, str(path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert "File too large" in process.stderr
    assert path.read_bytes() == b"whole\ndoes"
    assert read(AppendLog(path)) == [(1, b"whole")]


def test_removed_log_leaves_nothing(tmp_path: Path) -> None:
    log = AppendLog(tmp_path / "a.jsonl")
    with log.locked():
        log.append("줄")
        log.remove()
    assert list(tmp_path.iterdir()) == []
    assert read(log) == []
