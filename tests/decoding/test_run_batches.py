from __future__ import annotations

from pathlib import Path

import pytest

from stages.decoding.resume_log import ResumeLog
from stages.decoding.run_batches import run_batches
from stages.engines.batches import Tell


def squares(rows: list[int], tell: Tell) -> list[int]:
    tell(len(rows))
    return [row * row for row in rows]


def test_values_come_in_the_order_of_rows_whatever_that_of_the_batches() -> None:
    assert run_batches(squares, [[3, 1], [0], [2]], "test") == [0, 1, 4, 9]
    assert run_batches(squares, [], "test") == []


def test_a_run_that_was_killed_goes_on_with_the_batch_that_it_was_at(tmp_path: Path) -> None:
    path = tmp_path / "partial.jsonl"

    def killed(rows: list[int], tell: Tell) -> list[int]:
        if 0 in rows:
            raise KeyboardInterrupt
        return squares(rows, tell)

    with pytest.raises(KeyboardInterrupt):
        run_batches(killed, [[3, 1], [0], [2]], "test", ResumeLog(path))
    asked: list[list[int]] = []

    def recorded(rows: list[int], tell: Tell) -> list[int]:
        asked.append(rows)
        return squares(rows, tell)

    assert run_batches(recorded, [[3, 1], [0], [2]], "test", ResumeLog(path)) == [0, 1, 4, 9]
    assert asked == [[0], [2]]
