from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from stages.layers.packed_rows import TrainingRow, pack, split


def test_labels_are_the_completion_alone() -> None:
    row = TrainingRow([5, 6], [7, 8, 2])
    assert (row.input_ids, row.labels) == ([5, 6, 7, 8, 2], [-100, -100, 7, 8, 2])


def test_rows_lie_end_to_end_and_each_begins_at_position_0() -> None:
    packed = pack([TrainingRow([5, 6, 3], [7, 8]), TrainingRow([9], [4])])
    assert {
        name: value.tolist() if isinstance(value, torch.Tensor) else value for name, value in packed.inputs.items()
    } == {
        "input_ids": [[5, 6, 3, 7, 8, 9, 4]],
        "position_ids": [[0, 1, 2, 3, 4, 0, 1]],
        "cu_seq_lens_q": [0, 5, 7],
        "cu_seq_lens_k": [0, 5, 7],
        "max_length_q": 5,
        "max_length_k": 5,
    }
    assert packed.positions.tolist() == [2, 3, 5]
    assert packed.targets.tolist() == [7, 8, 4]
    assert packed.rows.tolist() == [0, 0, 1]


@given(st.lists(st.integers(2, 300), min_size=1, max_size=40), st.integers(1, 600))
def test_every_row_is_in_one_micro_batch_within_the_budget(lengths: list[int], budget: int) -> None:
    batches = split(lengths, budget)
    assert sorted(row for batch in batches for row in batch) == list(range(len(lengths)))
    for batch in batches:
        assert len(batch) == 1 or sum(lengths[row] for row in batch) <= budget
    # At least half full on average, or one more batch could have been saved.
    assert len(batches) <= max(1, 2 * sum(max(length, 1) for length in lengths) // budget + 1) or max(lengths) > budget
