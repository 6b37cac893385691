"""Attention over packed rows: several rows in one sequence, each of which attends to itself alone."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

PACKED = "packed"
"""The name under which transformers knows `packed_attention`."""
PADDED = "sdpa"
"""The implementation for batches of padded rows, which generation takes."""


def use_attention(model: PreTrainedModel, name: str) -> None:
    """Let a model attend to packed or to padded rows from now on."""
    AttentionInterface.register(PACKED, packed_attention)
    model.set_attn_implementation(name)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    cu_seq_lens_q: Tensor,
    max_length_q: int,
    scaling: float | None = None,
    sliding_window: int | None = None,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each row of a packed sequence, an attention function of transformers.

    Args:
        query: 1 x heads x T x head size.
        key: 1 x key-value heads x T x head size; so is `value`.
        attention_mask: there is none, `cu_seq_lens_q` says which tokens belong together.
        cu_seq_lens_q: where rows begin and end, rows + 1 positions from 0 to T.
        max_length_q: the longest row.
        sliding_window: how many tokens one attends to, itself included; None: all before it.

    Returns:
        1 x T x heads x head size, and no attention weights.
    """
    output = attend(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        cu_seq_lens_q,
        max_length_q,
        scaling=scaling,
        sliding_window=sliding_window,
    )
    return output[None], None


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    bounds: Tensor,
    longest: int,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
) -> Tensor:
    """The same on flat tensors: T x heads x head size in and out."""
    windowed = sliding_window is not None and longest > sliding_window
    equally_long = len(query) == longest * (len(bounds) - 1)
    # Flash attention takes no float32.
    flash = query.is_cuda and query.dtype is not torch.float32
    if flash and equally_long and not windowed:
        # cuDNN's attention is twice as fast as the one below on an H100, but takes no rows of different lengths.
        states = [each.unflatten(0, (-1, longest)).transpose(1, 2) for each in (query, key, value)]
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
            batch = scaled_dot_product_attention(
                states[0], states[1], states[2], is_causal=True, scale=scaling, enable_gqa=True
            )
        return batch.transpose(1, 2).flatten(0, 1)
    if flash:
        window = (sliding_window - 1, 0) if windowed and sliding_window else (-1, 0)
        output = varlen_attn(
            query, key, value, bounds, bounds, longest, longest, scale=scaling, window_size=window, enable_gqa=True
        )
        return cast(Tensor, output)
    rows = [
        _attend_row(query[start:end], key[start:end], value[start:end], scaling, sliding_window)
        for start, end in pairwise(bounds.tolist())
    ]
    return torch.cat(rows)


def _attend_row(query: Tensor, key: Tensor, value: Tensor, scaling: float | None, window: int | None) -> Tensor:
    """One row by plain products: on a CPU, PyTorch's fused attention takes twice as long, most of it backwards."""
    length, heads, size = query.shape
    query, key, value = (each.transpose(0, 1) for each in (query, key, value))
    key, value = (each.repeat_interleave(heads // len(each), dim=0) for each in (key, value))
    places = torch.arange(length, device=query.device)
    distance = places[:, None] - places
    hidden = (distance < 0) | (distance >= (window or length))
    scores = (query @ key.transpose(1, 2)) * (size**-0.5 if scaling is None else scaling)
    weights = scores.float().masked_fill(hidden, -math.inf).softmax(dim=-1).to(value.dtype)
    return (weights @ value).transpose(0, 1)
