from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from stages.core.errors import UserError
from stages.core.parallel import available_cores, map_ordered


def square(number: int) -> int:
    return number * number


def who(_: int) -> int:
    return os.getpid()


def refuse_three(number: int) -> int:
    if number == 3:
        raise UserError("3: not allowed")
    return number


@pytest.mark.parametrize("workers", [1, 2])
def test_results_come_in_order(workers: int) -> None:
    assert list(map_ordered(square, range(40), workers)) == [number * number for number in range(40)]
    assert list(map_ordered(square, [], workers)) == []


def test_workers_are_other_processes() -> None:
    assert os.getpid() not in set(map_ordered(who, range(4), 2))
    assert set(map_ordered(who, range(4), 1)) == {os.getpid()}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_raised_in_its_turn(workers: int) -> None:
    results = map_ordered(refuse_three, range(100), workers)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match=r"^3: not allowed$"):
        next(results)


def test_items_are_taken_as_results_are_used() -> None:
    taken = []

    def items() -> Iterator[int]:
        for number in range(100):
            taken.append(number)
            yield number

    results = map_ordered(square, items(), 2)
    next(results)
    assert len(taken) == 5
    results.close()  # type: ignore[attr-defined]


def test_a_core_is_available() -> None:
    assert 1 <= available_cores() <= (os.cpu_count() or 1)


def test_macos_tells_of_all_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "sched_getaffinity")
    assert available_cores() == os.cpu_count()
