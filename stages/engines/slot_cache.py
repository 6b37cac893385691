"""Keys and values in fixed places, which hypotheses of one dialogue share, and the attention that reads them.

The hypotheses of a dialogue stand side by side, as several tokens of one row. A mask lets each see the prompt and its
own past, so nothing is copied when a beam takes another's place, and the prompt is held once for all of them (the
tree attention of SpecInfer, Miao et al. 2023).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from transformers import AttentionInterface, Cache, PreTrainedConfig, PreTrainedModel
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from stages.layers.packed_attention import refuse_unknown
from stages.models.families import reads_packed

FULL = "full_attention"
SLIDING = "sliding_attention"
GROUPED = "grouped_sdpa"
SDPA_HAS = ("dropout", "sliding_window")
"""What is asked of it and done already: the mask has the window, and nothing that generates drops weights."""
NEIGHBOURS = 8
"""Rows that attend together on a CPU. They are sorted by length, so they are about as long as each other."""


@dataclass(frozen=True)
class Places:
    """Where a cache holds tokens: the row and the slot of each."""

    rows: torch.Tensor
    slots: torch.Tensor


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values of some rows, `capacity` slots each.

    Attributes:
        written: where the tokens of the next forward pass are written to, in the order in which the model has them.
        read: what attention reads: so many slots of every row, from the first; or, of packed tokens, places end to
            end; None: the packed tokens alone.
    """

    def __init__(self, batch: int, capacity: int) -> None:
        super().__init__(layers=[])
        self.batch = batch
        self.capacity = capacity
        self.written = Places(torch.empty(0, dtype=torch.long), torch.empty(0, dtype=torch.long))
        self.read: Places | int | None = None
        self.keys: list[torch.Tensor] = []
        self.values: list[torch.Tensor] = []

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, layer_idx: int, *args: Any, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        if layer_idx == len(self.keys):
            self.keys.append(self._room(key_states))
            self.values.append(self._room(value_states))
        held = []
        for whole, new in ((self.keys[layer_idx], key_states), (self.values[layer_idx], value_states)):
            whole[self.written.rows, :, self.written.slots] = new.transpose(1, 2).flatten(0, 1)
            if isinstance(self.read, int):
                new = whole[:, :, : self.read]
            elif self.read is not None:
                new = whole[self.read.rows, :, self.read.slots].transpose(0, 1)[None]
            held.append(new)
        return held[0], held[1]

    def get_seq_length(self, layer_idx: int = 0) -> int:
        return 0

    def put(self, prefix: SlotCache) -> None:
        """Begin every row with what a one-row cache holds."""
        for source, target in ((prefix.keys, self.keys), (prefix.values, self.values)):
            for states in source:
                target.append(self._room(states))
                target[-1][:, :, : prefix.capacity] = states

    def select(self, rows: torch.Tensor) -> SlotCache:
        """A copy of some rows."""
        copy = SlotCache(len(rows), self.capacity)
        copy.keys = [states.index_select(0, rows) for states in self.keys]
        copy.values = [states.index_select(0, rows) for states in self.values]
        return copy

    def copies(self, times: int, capacity: int) -> SlotCache:
        """A copy with so many rows for each one, and another capacity; slots beyond the smaller one are left out."""
        copy = SlotCache(times * self.batch, capacity)
        for source, target in ((self.keys, copy.keys), (self.values, copy.values)):
            for states in source:
                target.append(copy._room(states))
                kept = states[:, :, :capacity]
                target[-1][:, :, : kept.shape[2]] = kept.repeat_interleave(times, dim=0)
        return copy

    def _room(self, states: torch.Tensor) -> torch.Tensor:
        _, heads, _, width = states.shape
        return states.new_zeros((self.batch, heads, self.capacity, width))


def attention_masks(
    config: PreTrainedConfig,
    dtype: torch.dtype,
    visible: torch.Tensor,
    query_positions: torch.Tensor,
    slot_positions: torch.Tensor,
) -> torch.Tensor | dict[str, torch.Tensor]:
    """What each query token may read, as a model of this configuration takes it: added to the scores.

    Args:
        visible: (rows, queries, slots), whether a slot is in a query's past, itself included.
        query_positions: (rows, queries), positions in the text.
        slot_positions: (rows, slots), likewise.

    Returns:
        (rows, 1, queries, slots); for a model that mixes kinds of layers, a mask for each kind.
    """
    text = config.get_text_config()
    masks = {}
    for kind in _layer_kinds(text):
        seen = visible
        if kind == SLIDING:
            near = query_positions[:, :, None] - slot_positions[:, None, :] < text.sliding_window
            seen = visible & near
        masks[kind] = torch.where(seen[:, None], 0.0, torch.finfo(dtype).min).to(dtype)
    return masks if len(masks) > 1 else next(iter(masks.values()))


def _layer_kinds(text: PreTrainedConfig) -> list[str]:
    kinds = getattr(text, "layer_types", None)
    if kinds is None:
        kinds = [SLIDING if getattr(text, "sliding_window", None) else FULL]
    return sorted(set(kinds))


def _grouped_attention(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor,
    scaling: float | None = None,
    used_slots: Sequence[int] | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """Attention in which heads that share keys and values are more query tokens of one head.

    transformers repeats keys and values for each head instead, which costs more than all else in a decoding step.

    Args:
        used_slots: of each row, how many keys may be seen, from the first: the others are not read either.
    """
    refuse_unknown(module, {name: value for name, value in kwargs.items() if name not in SDPA_HAS})
    batch, heads, length, width = query.shape
    shared = heads // key.shape[1]
    if shared == 1:
        answer: tuple[torch.Tensor, None] = sdpa_attention_forward(
            module, query, key, value, attention_mask, scaling=scaling, **kwargs
        )
        return answer
    query = query.reshape(batch, key.shape[1], shared * length, width)
    size = batch if used_slots is None else NEIGHBOURS
    parts = []
    for start in range(0, batch, size):
        rows = slice(start, start + size)
        most = key.shape[2] if used_slots is None else max(used_slots[rows])
        mask = attention_mask[rows, ..., :most].repeat(1, 1, shared, 1)
        states = (query[rows], key[rows, :, :most], value[rows, :, :most])
        parts.append(torch.nn.functional.scaled_dot_product_attention(*states, attn_mask=mask, scale=scaling))
    output = parts[0] if len(parts) == 1 else torch.cat(parts)
    return output.reshape(batch, heads, length, -1).transpose(1, 2).contiguous(), None


@contextmanager
def grouped_attention(model: PreTrainedModel) -> Iterator[None]:
    """Let a model attend as above meanwhile; one that has eager attention alone, or no slots, stays as it is."""
    before = model.config._attn_implementation
    changes = before != "eager" and reads_packed(model.config)
    if changes:
        AttentionInterface.register(GROUPED, _grouped_attention)
        model.set_attn_implementation(GROUPED)
    try:
        yield
    finally:
        if changes:
            model.set_attn_implementation(before)
