"""Rows packed end to end, without padding: what a micro-batch of training or evaluation is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, chain

import torch
from torch import Tensor

IGNORED = -100
"""The label of a token that no loss is taken over."""


@dataclass(frozen=True)
class TrainingRow:
    """One training example: the prompt's ids and those of the completion, its stop token included."""

    prompt_ids: list[int]
    completion_ids: list[int]

    def __len__(self) -> int:
        return len(self.prompt_ids) + len(self.completion_ids)

    @property
    def input_ids(self) -> list[int]:
        return self.prompt_ids + self.completion_ids

    @property
    def labels(self) -> list[int]:
        return [IGNORED] * len(self.prompt_ids) + self.completion_ids


@dataclass(frozen=True)
class Packed:
    """Rows in one sequence of T tokens, of which K are predicted."""

    inputs: dict[str, Tensor | int]
    """What the model reads: `input_ids` and `position_ids` (1 x T), which begin again with each row, and where rows
    lie, under the names that attention functions of transformers know: `cu_seq_lens_q`, `cu_seq_lens_k` (rows + 1,
    int32) and `max_length_q`, `max_length_k`."""
    positions: Tensor
    """The positions that predict a token of a completion, K; each is the one before that token."""
    targets: Tensor
    """The tokens predicted, K."""
    rows: Tensor
    """The row, counted from 0, that each prediction belongs to, K."""


def pack(rows: Sequence[TrainingRow], device: torch.device | str = "cpu") -> Packed:
    """Put rows one behind the other; each keeps its own positions and attends to itself alone."""
    ends = list(accumulate(map(len, rows)))
    starts = [0, *ends[:-1]]
    bounds = torch.tensor([0, *ends], dtype=torch.int32, device=device)
    longest = max(map(len, rows))

    def tensor(values: Sequence[Sequence[int]] | Sequence[range]) -> Tensor:
        return torch.tensor(list(chain.from_iterable(values)), device=device)

    predicting = [range(end - len(row.completion_ids) - 1, end - 1) for row, end in zip(rows, ends, strict=True)]
    return Packed(
        inputs={
            "input_ids": tensor([row.input_ids for row in rows])[None],
            "position_ids": tensor([range(end - start) for start, end in zip(starts, ends, strict=True)])[None],
            "cu_seq_lens_q": bounds,
            "cu_seq_lens_k": bounds,
            "max_length_q": longest,
            "max_length_k": longest,
        },
        positions=tensor(predicting),
        targets=tensor([row.completion_ids for row in rows]),
        rows=torch.repeat_interleave(
            torch.arange(len(rows), device=device), torch.tensor([len(span) for span in predicting], device=device)
        ),
    )


def split(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Divide rows into micro-batches of at most `budget` tokens: the longest first, each where it first fits.

    A row that is longer than the budget is a micro-batch by itself.

    Returns:
        For each micro-batch, the positions of its rows.

    >>> split([300, 500, 200, 900], 1000)
    [[3], [1, 0, 2]]
    """
    batches: list[list[int]] = []
    filled: list[int] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        fits = next((i for i, tokens in enumerate(filled) if tokens + lengths[row] <= budget), None)
        if fits is None:
            batches.append([row])
            filled.append(lengths[row])
        else:
            batches[fits].append(row)
            filled[fits] += lengths[row]
    return batches
