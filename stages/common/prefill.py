"""Reads prompts once, for any number of searches after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import takewhile

import torch
from transformers import PreTrainedModel

from stages.common.slots import SlotCache, attention_masks

LAST = [-1]
"""The position whose logits are wanted. A count of 1 would slice the hidden states, and the product of a strided
slice with the output embedding copies that embedding once a row on the CPU (a third of a gigabyte for Gemma 3)."""

READ_AT_ONCE = {"cuda": 16_384, "cpu": 512}
"""Prompt tokens in one forward pass: enough to keep the device busy, and few rows are padded to the longest."""


@dataclass(frozen=True)
class Prefix:
    """The beginning that all prompts share, read once."""

    ids: list[int]
    cache: SlotCache


@dataclass(frozen=True)
class Prompts:
    """Prompts that a model has read.

    Attributes:
        ids: of each prompt.
        cache: their keys and values, and room for what is to be written.
        readable: (rows, slots), whether a slot holds a prompt's token.
        positions: (rows, slots), the positions of these tokens.
        width: slots that the longest prompt takes.
        logits: (rows, vocabulary), what follows each prompt, in float32.
    """

    ids: list[list[int]]
    cache: SlotCache
    readable: torch.Tensor
    positions: torch.Tensor
    width: int
    logits: torch.Tensor


def shared_prefix(prompts: Sequence[Sequence[int]]) -> list[int]:
    """The ids that all prompts begin with, of two or more; each prompt has at least one more.

    >>> shared_prefix([[1, 2, 3], [1, 2, 4]]), shared_prefix([[1, 2], [1, 2]]), shared_prefix([[1, 2]])
    ([1, 2], [1], [])
    """
    return common([ids[:-1] for ids in prompts]) if len(prompts) > 1 else []


def common(lists: Sequence[Sequence[int]]) -> list[int]:
    """What all lists begin with.

    >>> common([[1, 2, 3], [1, 2], [1, 2, 4]])
    [1, 2]
    """
    return [ids[0] for ids in takewhile(lambda ids: len(set(ids)) == 1, zip(*lists, strict=False))]


@torch.inference_mode()
def read_prefix(model: PreTrainedModel, ids: Sequence[int]) -> Prefix:
    """Read the beginning of prompts."""
    cache = SlotCache(1, len(ids))
    if ids:
        _read(model, cache, torch.tensor([ids], device=model.device), 0, *_layout([len(ids)], 0, len(ids), model))
    return Prefix(list(ids), cache)


@torch.inference_mode()
def read_prompts(model: PreTrainedModel, prompts: Sequence[Sequence[int]], prefix: Prefix, room: int) -> Prompts:
    """Read prompts that begin with `prefix`, several at a time; `room` slots are left for what is written after them.

    The prefix fills the first slots of each row; what follows it is padded on its left.
    """
    begun = len(prefix.ids)
    rests = [list(ids[begun:]) for ids in prompts]
    width = begun + max(map(len, rests))
    capacity = -(-(width + room) // 8) * 8  # masks of GPU kernels want their rows aligned
    readable, positions = _layout([len(rest) for rest in rests], begun, width, model)
    cache = SlotCache(len(prompts), capacity)
    cache.put(prefix.cache)
    ids = torch.tensor([[0] * (width - begun - len(rest)) + rest for rest in rests], device=model.device)
    at_once = max(1, READ_AT_ONCE.get(model.device.type, 512) // width)
    logits = []
    for start in range(0, len(rests), at_once):
        rows = cache.rows = slice(start, start + at_once)
        # Padding that all of these rows share is not read.
        first = width - max(map(len, rests[rows]))
        logits.append(_read(model, cache, ids[rows, first - begun :], first, readable[rows], positions[rows]))
    cache.rows = slice(None)
    pad = (0, capacity - width)
    return Prompts(
        ids=[list(each) for each in prompts],
        cache=cache,
        readable=torch.nn.functional.pad(readable, pad),
        positions=torch.nn.functional.pad(positions, pad),
        width=width,
        logits=torch.cat(logits).float(),
    )


def _layout(
    lengths: Sequence[int], begun: int, width: int, model: PreTrainedModel
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which slots hold tokens, and their positions: (rows, width) each."""
    slot = torch.arange(width, device=model.device).expand(len(lengths), -1)
    padding = torch.tensor([width - begun - length for length in lengths], device=model.device)[:, None]
    readable = (slot < begun) | (slot >= begun + padding)
    return readable, torch.where(slot < begun, slot, (slot - padding).clamp(min=0))


def _read(
    model: PreTrainedModel,
    cache: SlotCache,
    ids: torch.Tensor,
    first: int,
    readable: torch.Tensor,
    positions: torch.Tensor,
) -> torch.Tensor:
    """Read the tokens of the slots from `first` on, and give what follows the last of them."""
    width = first + ids.shape[1]
    slot = torch.arange(width, device=ids.device)
    past = slot[None, :] <= slot[first:, None]
    # Padding reads itself, so that no softmax is taken over nothing.
    own = slot[None, :] == slot[first:, None]
    visible = (past & readable[:, None, :]) | own
    cache.slots = slot[first:]
    cache.used = width
    output = model(
        input_ids=ids,
        position_ids=positions[:, first:],
        attention_mask=attention_masks(model.config, model.dtype, visible, positions[:, first:], positions),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=LAST,
    )
    logits: torch.Tensor = output.logits[:, -1]
    return logits
