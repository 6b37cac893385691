"""Attention over packed rows: several rows in one sequence, each of which attends to itself alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any, cast

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.attention.varlen import varlen_attn
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface, PreTrainedModel

from stages.core.errors import UserError
from stages.layers.capped_attention import attend_capped

PACKED = "packed"
"""The name under which transformers knows `packed_attention`."""
PADDED = "sdpa"
"""The implementation for batches of padded rows, of models that have it."""
NO_MATTER = {
    "is_causal", "logits_to_keep", "num_items_in_batch", "output_attentions", "output_hidden_states",
    "output_router_logits", "position_ids", "return_dict", "use_cache", "used_slots",
}  # fmt: skip
"""What models hand on to their attention that changes nothing of what it computes here."""
FLASH_HEAD = 256
"""The largest heads that PyTorch's flash attention takes; in Gemma 4, layers without a window have larger ones."""
FLASH_4_HEAD = 128
"""The largest heads that FlashAttention 4 takes on Hopper and on Blackwell alike, forward and backward."""


@dataclass(frozen=True)
class Rows:
    """How packed tokens fall into rows. A row's queries are the last of its tokens, keys and values are of all."""

    queries: Tensor
    """Where rows begin and end, rows + 1 positions, int32."""
    keys: Tensor
    """Likewise."""
    most_queries: int
    """Of a row."""
    most_keys: int


def use_attention(model: PreTrainedModel, name: str) -> None:
    """Let a model attend to packed or to padded rows from now on."""
    AttentionInterface.register(PACKED, packed_attention)
    model.set_attn_implementation(name)


@contextmanager
def packed(model: PreTrainedModel) -> Iterator[None]:
    """Let a model attend to packed rows meanwhile."""
    before = model.config._attn_implementation
    use_attention(model, PACKED)
    try:
        yield
    finally:
        model.set_attn_implementation(before)


def packed_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: None,
    *,
    cu_seq_lens_q: Tensor,
    cu_seq_lens_k: Tensor,
    max_length_q: int,
    max_length_k: int,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> tuple[Tensor, None]:
    """Causal attention within each row of a packed sequence, an attention function of transformers.

    Args:
        query: 1 x heads x T x head size.
        key: 1 x key-value heads x S x head size; so is `value`.
        attention_mask: there is none, the next two say which tokens belong together.
        cu_seq_lens_q: where rows begin and end, rows + 1 positions from 0 to T.
        cu_seq_lens_k: the same for keys and values, from 0 to S; a row's queries are the last of its tokens.
        max_length_q: the most queries of a row.
        max_length_k: the most keys of a row.
        sliding_window: how many tokens one attends to, itself included; None: all before it.
        softcap: what scores are kept below, as Gemma 2 does; None: nothing.
        s_aux: a score for each head that takes its share of attention and gives nothing, as gpt-oss has.
        dropout: share of the attention weights that is zeroed.

    Returns:
        1 x T x heads x head size, and no attention weights.

    Raises:
        UserError: the model asks for something else.
    """
    refuse_unknown(module, kwargs)
    output = attend(
        query[0].transpose(0, 1),
        key[0].transpose(0, 1),
        value[0].transpose(0, 1),
        Rows(cu_seq_lens_q, cu_seq_lens_k, max_length_q, max_length_k),
        scaling=scaling,
        sliding_window=sliding_window,
        softcap=softcap,
        sinks=s_aux,
        dropout=dropout,
    )
    return output[None], None


def refuse_unknown(module: torch.nn.Module, asked: dict[str, Any]) -> None:
    """Refuse what an attention function of ours would have to do and does not know.

    Raises:
        UserError: there is something.
    """
    unknown = sorted(name for name, value in asked.items() if value is not None and name not in NO_MATTER)
    if unknown:
        raise UserError(
            f"models/base.json: {type(module).__name__} asks for {', '.join(unknown)}, which attention here does not "
            "have; choose a base model of another family"
        )


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    rows: Rows,
    *,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """The same on flat tensors: T x heads x head size in and out."""
    windowed = sliding_window is not None and rows.most_keys > sliding_window
    known = sinks is None and not dropout and _has_flash(query)
    if known and softcap is not None and len(query) == len(key):
        return attend_capped(
            query,
            key,
            value,
            rows.queries,
            scaling=query.shape[-1] ** -0.5 if scaling is None else scaling,
            window=sliding_window if windowed else None,
            softcap=softcap,
        )
    if not known or softcap is not None:
        spans = zip(pairwise(rows.queries.tolist()), pairwise(rows.keys.tolist()), strict=True)
        kind = _Kind(scaling, sliding_window, softcap, sinks, dropout)
        alone = [
            _attend_row(query[start:end], key[first:last], value[first:last], kind)
            for (start, end), (first, last) in spans
        ]
        return torch.cat(alone)
    longest = rows.most_queries
    left = sliding_window - 1 if windowed and sliding_window else None
    equally_long = len(query) == len(key) == longest * (len(rows.queries) - 1)
    if equally_long and left is None:
        # On an H100 cuDNN's attention is the fastest, but it takes no rows of different lengths.
        states = [each.unflatten(0, (-1, longest)).transpose(1, 2) for each in (query, key, value)]
        with sdpa_kernel([SDPBackend.CUDNN_ATTENTION, SDPBackend.FLASH_ATTENTION], set_priority=True):
            batch = scaled_dot_product_attention(
                states[0], states[1], states[2], is_causal=True, scale=scaling, enable_gqa=True
            )
        return batch.transpose(1, 2).flatten(0, 1)
    newest = _newest_flash(query.device, query.shape[-1])
    if newest is not None:
        output: Tensor = newest(
            query,
            key,
            value,
            cu_seqlens_q=rows.queries,
            cu_seqlens_k=rows.keys,
            max_seqlen_q=longest,
            max_seqlen_k=rows.most_keys,
            softmax_scale=scaling,
            causal=True,
            window_size=(left, None),
        )
        return output
    window = (-1 if left is None else left, 0)
    bounds = (rows.queries, rows.keys, longest, rows.most_keys)
    return cast(Tensor, varlen_attn(query, key, value, *bounds, scale=scaling, window_size=window, enable_gqa=True))


def _has_flash(query: Tensor) -> bool:
    """Flash attention takes no float32, no heads wider than 256, and no GPU before NVIDIA's Ampere."""
    takes = query.is_cuda and query.dtype is not torch.float32 and query.shape[-1] <= FLASH_HEAD
    return takes and torch.cuda.get_device_capability(query.device) >= (8,)


def is_flash(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether rows without soft caps are attended to by the flash attention of PyTorch."""
    if device.type != "cuda" or dtype is torch.float32 or head_size > FLASH_HEAD:
        return False
    return torch.cuda.get_device_capability(device) >= (8,) and _newest_flash(device, head_size) is None


@cache
def _newest_flash(device: torch.device, head_size: int) -> Callable[..., Tensor] | None:
    """FlashAttention 4, where it is installed: on an H100 it takes 0.6 of the time of the one that PyTorch has."""
    if torch.cuda.get_device_capability(device) < (9,) or head_size > FLASH_4_HEAD or head_size % 8:
        return None
    try:
        from flash_attn.cute import flash_attn_varlen_func
    except ImportError:
        return None

    def attention(*tensors: Tensor, **options: Any) -> Tensor:
        output, _ = flash_attn_varlen_func(*tensors, **options)
        return cast(Tensor, output)

    return attention


@dataclass(frozen=True)
class _Kind:
    """What is done to scores beside softmax."""

    scaling: float | None
    window: int | None
    softcap: float | None
    sinks: Tensor | None
    dropout: float


def _attend_row(query: Tensor, key: Tensor, value: Tensor, kind: _Kind) -> Tensor:
    """One row by plain products: on a CPU, PyTorch's fused attention takes twice as long, most of it backwards."""
    heads, size = query.shape[1:]
    query, key, value = (each.transpose(0, 1) for each in (query, key, value))
    key, value = (each.repeat_interleave(heads // len(each), dim=0) for each in (key, value))
    places = torch.arange(key.shape[1], device=query.device)
    distance = places[-query.shape[1] :, None] - places
    hidden = (distance < 0) | (distance >= (kind.window or len(places)))
    scale = size**-0.5 if kind.scaling is None else kind.scaling
    if query.dtype is torch.float16:
        # Scaled first: products of large keys, such as Qwen 2's, are above the largest number of float16.
        scores = (query * scale) @ key.transpose(1, 2)
    else:
        scores = (query @ key.transpose(1, 2)) * scale
    if kind.softcap is not None:
        scores = (scores / kind.softcap).tanh() * kind.softcap
    scores = scores.float().masked_fill(hidden, -math.inf)
    if kind.sinks is not None:
        scores = torch.cat([scores, kind.sinks.float()[:, None, None].expand(-1, scores.shape[1], 1)], dim=-1)
    weights = scores.softmax(dim=-1)[..., : len(places)].to(value.dtype)
    if kind.dropout:
        weights = torch.nn.functional.dropout(weights, kind.dropout)
    return (weights @ value).transpose(0, 1)
