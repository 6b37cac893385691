from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.decoding.workers import Workers, workers

ROOT = Path(__file__).parents[2]
Tell = Callable[[int], object]
Held = tuple[str, int]
"""The GPUs that a process sees, and its number."""


def load(answer: str = "") -> Held:
    if answer:
        raise UserError(answer)
    return os.environ.get("CUDA_VISIBLE_DEVICES", "none"), os.getpid()


def where(held: Held, word: str) -> str:
    return f"{word} {held[0]}"


def together(held: Held, tell: Tell, folder: Path, number: int) -> int:
    """The process that does it, once another one does the same with the next number."""
    (folder / str(number)).touch()
    tell(2)
    while not (folder / str(number ^ 1)).exists():
        time.sleep(0.01)
    return held[1]


def fail(held: Held, tell: Tell, how: str) -> None:
    if how == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if how == "wrong":
        raise UserError("the dialogue is odd")
    if how == "broken":
        raise ZeroDivisionError("by nothing")
    time.sleep(600)


def identity(held: Held, tell: Tell, value: int) -> int:
    return value


def alive(pid: int) -> bool:
    try:  # nobody in a container may reap it
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


@pytest.fixture(scope="module")
def two() -> Iterator[Workers[Held]]:
    with workers(load, ["4", "GPU-7"]) as both:
        yield both


def test_each_gpu_has_a_process_that_sees_it_alone(two: Workers[Held]) -> None:
    assert two.each(where, "on") == ["on 4", "on GPU-7"]
    assert os.environ.get("CUDA_VISIBLE_DEVICES") != "4"


def test_both_work_at_once_and_calls_keep_their_numbers(two: Workers[Held], tmp_path: Path) -> None:
    told: list[int] = []
    found = dict(two.deal(together, [(tmp_path, number) for number in range(6)], told.append))
    assert sorted(found) == list(range(6))
    assert all(found[number] != found[number + 1] for number in (0, 2, 4))
    assert len(set(found.values())) == 2
    assert os.getpid() not in found.values()
    assert sum(told) == 12


def test_one_gpu_or_none_needs_no_process() -> None:
    for gpus in ([], ["0"]):
        with workers(load, gpus) as here:
            assert dict(here.deal(identity, [(5,), (7,)], lambda rows: None)) == {0: 5, 1: 7}
            assert [held for _, held in here.each(itself)] == [os.getpid()]


def test_what_loading_says_is_said() -> None:
    with (
        pytest.raises(UserError, match=r"^models/adapter: not found$"),
        workers(partial(load, "models/adapter: not found"), ["0", "1"]),
    ):
        pass


@pytest.mark.parametrize(
    ("how", "kind", "message"),
    [
        ("wrong", UserError, "^the dialogue is odd$"),
        ("broken", ZeroDivisionError, r"(?s)^by nothing\n.*, in fail\n"),
        ("killed", UserError, r"^GPU 0: what wrote there ended with signal 9; what is done is kept for a new run$"),
    ],
)
def test_where_one_fails_the_other_ends(how: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind, match=message), workers(load, ["0", "1"]) as both:
        pids = [pid for _, pid in both.each(itself)]
        list(both.deal(fail, [(how,), ("asleep",)], lambda rows: None))
    assert not any(map(alive, pids))


def itself(held: Held) -> Held:
    return held


def test_they_end_with_what_started_them_however_that_ends(tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(
        "from pathlib import Path\nfrom stages.decoding.workers import workers\n"
        "from tests.decoding.test_workers import fail, itself, load\n"
        "if __name__ == '__main__':\n"
        "    with workers(load, ['0', '1']) as both:\n"
        "        Path('pids.part').write_text(' '.join(str(pid) for _, pid in both.each(itself)))\n"
        "        Path('pids.part').rename('pids')\n"
        "        list(both.deal(fail, [('asleep',)], print))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, env=environment)
    while not (tmp_path / "pids").exists():
        assert process.poll() is None
        time.sleep(0.01)
    pids = [int(pid) for pid in (tmp_path / "pids").read_text().split()]
    assert all(map(alive, pids))
    process.kill()
    process.wait()
    for _ in range(500):
        if not any(map(alive, pids)):
            return
        time.sleep(0.01)
    raise AssertionError("they go on")
