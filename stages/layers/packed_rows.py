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
    ends = accumulate(map(len, rows))
    predicting = [range(end - len(row.completion_ids) - 1, end - 1) for row, end in zip(rows, ends, strict=True)]
    return Packed(
        inputs=packed_inputs([row.input_ids for row in rows], device),
        positions=_end_to_end(predicting, device),
        targets=_end_to_end([row.completion_ids for row in rows], device),
        rows=torch.repeat_interleave(
            torch.arange(len(rows), device=device), torch.tensor([len(span) for span in predicting], device=device)
        ),
    )


def packed_inputs(
    rows: Sequence[Sequence[int]], device: torch.device | str = "cpu", before: int = 0
) -> dict[str, Tensor | int]:
    """What a model reads of rows that lie one behind the other, as `Packed.inputs` has it.

    Args:
        rows: the ids of each.
        before: tokens that stand before each row, of which attention has the keys.
    """
    lengths = [len(row) for row in rows]
    return {
        "input_ids": _end_to_end(rows, device)[None],
        "position_ids": _end_to_end([range(before, before + length) for length in lengths], device)[None],
        "cu_seq_lens_q": _bounds(lengths, device),
        "cu_seq_lens_k": _bounds([before + length for length in lengths], device),
        "max_length_q": max(lengths),
        "max_length_k": before + max(lengths),
    }


def _end_to_end(values: Sequence[Sequence[int]], device: torch.device | str) -> Tensor:
    return torch.tensor(list(chain.from_iterable(values)), device=device)


def _bounds(lengths: Sequence[int], device: torch.device | str) -> Tensor:
    return torch.tensor([0, *accumulate(lengths)], dtype=torch.int32, device=device)


def split(lengths: Sequence[int], budget: int) -> list[list[int]]:
    """Divide rows into as few micro-batches of at most `budget` tokens as the longest first, each where it first fits,
    gives; and make them equally large, where the budget allows it.

    A GPU takes as long for a few tokens as for a thousand. A row that is longer than the budget is alone.

    Returns:
        For each micro-batch, the positions of its rows.

    >>> split([300, 500, 200, 900], 1000)
    [[3], [1, 0, 2]]
    >>> split([400, 400, 400, 100], 900)
    [[0, 2], [1, 3]]
    """
    rows = sorted(range(len(lengths)), key=lambda row: (-lengths[row], row))
    batches: list[list[int]] = []
    filled: list[int] = []
    for row in rows:
        fits = next((i for i, tokens in enumerate(filled) if tokens + lengths[row] <= budget), None)
        if fits is None:
            batches.append([row])
            filled.append(lengths[row])
        else:
            batches[fits].append(row)
            filled[fits] += lengths[row]
    even = deal(lengths, len(batches))
    return even if all(sum(lengths[row] for row in batch) <= budget for batch in even) else batches


def deal(lengths: Sequence[int], count: int) -> list[list[int]]:
    """Divide rows into `count` parts of about as many tokens: from the longest on, each goes to the lightest part.

    Returns:
        For each part, the positions of its rows.

    >>> deal([300, 500, 200, 900], 2)
    [[3], [1, 0, 2]]
    """
    parts: list[list[int]] = [[] for _ in range(count)]
    loads = [0] * count
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        lightest = loads.index(min(loads))
        parts[lightest].append(row)
        loads[lightest] += lengths[row]
    return parts
