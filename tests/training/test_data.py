from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from stages.layers.packed_rows import TrainingRow
from stages.training.data import typical_rows


def row(tokens: int) -> TrainingRow:
    return TrainingRow([5] * (tokens - 1), [7])


def test_typical_rows_are_of_all_lengths_and_as_many_as_a_step_has() -> None:
    rows = [row(tokens) for tokens in (90, 10, 50, 30, 70, 100, 20, 60, 40, 80)]
    assert [len(each) for each in typical_rows(rows, batch_size=5, most_tokens=10_000)] == [20, 40, 60, 80, 100]
    # Of 55 tokens each on average, three are as much as 200 hold.
    assert [len(each) for each in typical_rows(rows, batch_size=5, most_tokens=200)] == [20, 60, 90]
    assert [len(each) for each in typical_rows(rows, batch_size=5, most_tokens=1)] == [60]
    assert typical_rows([row(9)], batch_size=5, most_tokens=10_000) == [row(9)]


@given(st.lists(st.integers(1, 2000), min_size=1, max_size=200), st.integers(1, 64), st.integers(64, 10_000))
def test_there_are_always_some_and_none_twice(lengths: list[int], batch_size: int, most_tokens: int) -> None:
    rows = [row(tokens) for tokens in lengths]
    chosen = typical_rows(rows, batch_size, most_tokens)
    assert 1 <= len(chosen) <= min(batch_size, len(rows))
    assert len(set(map(id, chosen))) == len(chosen)
