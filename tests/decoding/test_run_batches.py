from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from stages.decoding.resume_log import ResumeLog
from stages.decoding.run_batches import run_batches
from stages.engines.batches import Tell


def squares(batches: Sequence[list[int]], tell: Tell) -> Iterator[tuple[int, list[int]]]:
    for number, rows in enumerate(batches):
        tell(len(rows))
        yield number, [row * row for row in rows]


def backwards(batches: Sequence[list[int]], tell: Tell) -> Iterator[tuple[int, list[int]]]:
    return reversed(list(squares(batches, tell)))


def test_values_come_in_the_order_of_rows_whatever_that_of_the_batches() -> None:
    assert run_batches(squares, [[3, 1], [0], [2]], "test") == [0, 1, 4, 9]
    assert run_batches(backwards, [[3, 1], [0], [2]], "test") == [0, 1, 4, 9]
    assert run_batches(squares, [], "test") == []


def test_a_run_that_was_killed_goes_on_with_the_batch_that_it_was_at(tmp_path: Path) -> None:
    path = tmp_path / "partial.jsonl"

    def killed(batches: Sequence[list[int]], tell: Tell) -> Iterator[tuple[int, list[int]]]:
        for number, values in squares(batches, tell):
            if 0 in values:
                raise KeyboardInterrupt
            yield number, values

    with pytest.raises(KeyboardInterrupt):
        run_batches(killed, [[3, 1], [0], [2]], "test", ResumeLog(path))
    asked: list[list[int]] = []

    def recorded(batches: Sequence[list[int]], tell: Tell) -> Iterator[tuple[int, list[int]]]:
        asked.extend(batches)
        return squares(batches, tell)

    assert run_batches(recorded, [[3, 1], [0], [2]], "test", ResumeLog(path)) == [0, 1, 4, 9]
    assert asked == [[0], [2]]
