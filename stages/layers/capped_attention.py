"""Attention over packed rows whose scores have a soft cap, as Gemma 2's have: a kernel that PyTorch makes on a GPU.

The flash attention of PyTorch knows no soft cap, and FlashAttention 4 takes no heads as wide as Gemma's.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, lru_cache
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention.flex_attention import BlockMask, flex_attention

BLOCK = 128
"""Tokens of a block, of queries and of keys: what no query of a block sees is left out."""


def attend_capped(
    query: Tensor, key: Tensor, value: Tensor, bounds: Tensor, *, scaling: float, window: int | None, softcap: float
) -> Tensor:
    """The same as `stages.layers.packed_attention.attend`, of rows that nothing stands before.

    Args:
        bounds: where rows begin and end, rows + 1 positions.
        window: how many tokens each one sees, itself included.
    """

    def capped(score: Tensor, *place: Tensor) -> Tensor:
        return softcap * torch.tanh(score / softcap)

    states = [each.transpose(0, 1)[None] for each in (query, key, value)]
    mask = row_mask(bounds, len(query), window)
    output = _compiled()(*states, score_mod=capped, block_mask=mask, scale=scaling, enable_gqa=True)
    return cast(Tensor, output)[0].transpose(0, 1)


@cache
def _compiled() -> Callable[..., Any]:
    return torch.compile(flex_attention)


@lru_cache(maxsize=2)  # a batch has one of each kind of layer
def row_mask(bounds: Tensor, tokens: int, window: int | None) -> BlockMask:
    """What each token of some rows sees: those before it in its row, at most `window` with itself.

    Taken from where rows lie. That of all pairs of tokens would be as large as the attention that it saves.
    """
    row = torch.searchsorted(bounds[1:], torch.arange(tokens, device=bounds.device), right=True)

    def whole(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (row[query] == row[key])

    def windowed(batch: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Tensor:
        return (query >= key) & (row[query] == row[key]) & (query - key < cast(int, window))

    first = torch.arange(0, tokens, BLOCK, device=bounds.device)
    last = (first + BLOCK - 1).clamp(max=tokens - 1)
    # Queries down, keys across. The nearest pair of two blocks is the first query and the last key.
    some = (first[:, None] >= first) & (row[first][:, None] <= row[last])
    every = (first[:, None] > last) & (row[last][:, None] == row[first]) & (first[:, None] + BLOCK <= tokens)
    if window is not None:
        some &= first[:, None] - last < window
        every &= last[:, None] - first < window
    return BlockMask.from_kv_blocks(
        *_listed(some & ~every),
        *_listed(every),
        BLOCK_SIZE=BLOCK,
        mask_mod=whole if window is None else windowed,
        seq_lengths=(tokens, tokens),
    )


def _listed(blocks: Tensor) -> tuple[Tensor, Tensor]:
    """How many blocks of keys are marked for each block of queries, and which: these first."""
    count = blocks.sum(-1, dtype=torch.int32)
    places = blocks.int().argsort(dim=-1, descending=True, stable=True).int()
    return count[None, None], places[None, None]
