"""What DVC says of its queue, as it prints it; tests/test_sweep.py has the real one."""

from __future__ import annotations

import pytest

from stages.core.errors import UserError
from stages.finishing import dvc_queue
from stages.finishing.dvc_queue import Tasks

STATUS = """\
Task     Name                     Created       Status
6d8b269  sweep-n-0-0c1b9e12       08:57 AM      Running
0e1f2a3                           08:57 AM      Queued
cd0fe59  sweep-as-it-is-a0b5be07  08:56 AM      Success
fd54ffc  sweep-r-8-64237607       Nov 29, 2026  Failed
ab54ffc  mine                     08:59 AM      Queued

Worker status: {workers}
"""


@pytest.mark.parametrize(
    ("workers", "running", "orphaned"),
    [
        ("1 active, 0 idle", {"sweep-n-0-0c1b9e12"}, set()),
        ("0 active, 1 idle", {"sweep-n-0-0c1b9e12"}, set()),
        ("0 active, 0 idle", set(), {"sweep-n-0-0c1b9e12"}),
    ],
)
def test_what_runs_is_cut_short_where_nobody_works(
    workers: str, running: set[str], orphaned: set[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dvc_queue, "run_dvc", lambda *_: STATUS.format(workers=workers))
    tasks = dvc_queue.tasks()
    assert tasks == Tasks({"mine"}, running, orphaned, {"sweep-r-8-64237607"})
    assert tasks.pending == {"mine"} | running


def test_an_empty_queue(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "No experiment tasks in the queue.\n\nWorker status: 0 active, 0 idle\n"
    monkeypatch.setattr(dvc_queue, "run_dvc", lambda *_: said)
    assert dvc_queue.tasks() == Tasks(set(), set(), set(), set())


def test_what_failed_or_was_cut_short_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    done: list[tuple[str, ...]] = []
    monkeypatch.setattr(dvc_queue, "run_dvc", lambda *arguments: done.append(arguments))
    known = Tasks(set(), set(), {"cut"}, {"failed"})
    for name in ("new", "failed", "cut"):
        dvc_queue.put(name, {"lora.r": 8}, known)
    queue = ("exp", "run", "--queue", "--name")
    assert done == [
        (*queue, "new", "-S", "lora.r=8"),
        ("queue", "remove", "failed"),
        (*queue, "failed", "-S", "lora.r=8"),
        ("queue", "kill", "--force", "cut"),
        ("queue", "remove", "cut"),
        (*queue, "cut", "-S", "lora.r=8"),
    ]


def test_what_dvc_refuses_is_one_line() -> None:
    with pytest.raises(UserError, match=r"^dvc queue remove: .*no-such-task.*$"):
        dvc_queue.run_dvc("queue", "remove", "no-such-task")
