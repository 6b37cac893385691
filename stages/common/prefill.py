"""Reads prompts once, for any number of searches after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile

import torch
from transformers import PreTrainedModel

from stages.common.attention import packed
from stages.common.packing import packed_inputs
from stages.common.slots import Places, SlotCache

READ_AT_ONCE = {"cuda": 16_384, "cpu": 512}
"""Prompt tokens in one forward pass: enough to keep the device busy, and no more memory than that takes."""


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
        with packed(model):
            _read(model, cache, [list(ids)], 0, 0, len(ids))
    cache.used = len(ids)
    return Prefix(list(ids), cache)


@torch.inference_mode()
def read_prompts(model: PreTrainedModel, prompts: Sequence[Sequence[int]], prefix: Prefix, room: int) -> Prompts:
    """Read prompts that begin with `prefix`, several at a time; `room` slots are left for what is written after them.

    The prefix fills the first slots of each row; what follows it ends where the longest does.
    """
    begun = len(prefix.ids)
    rests = [list(ids[begun:]) for ids in prompts]
    width = begun + max(map(len, rests))
    capacity = -(-(width + room) // 8) * 8  # masks of GPU kernels want their rows aligned
    readable, positions = _layout([len(rest) for rest in rests], begun, width, model)
    cache = SlotCache(len(prompts), capacity)
    cache.put(prefix.cache)
    budget = READ_AT_ONCE.get(model.device.type, READ_AT_ONCE["cpu"])
    with packed(model):
        logits = [
            _read(model, cache, rests[rows.start : rows.stop], rows.start, begun, width)
            for rows in _parts([len(rest) for rest in rests], budget)
        ]
    pad = (0, capacity - width)
    return Prompts(
        ids=[list(each) for each in prompts],
        cache=cache,
        readable=torch.nn.functional.pad(readable, pad),
        positions=torch.nn.functional.pad(positions, pad),
        width=width,
        logits=torch.cat(logits).float(),
    )


def _parts(lengths: Sequence[int], budget: int) -> list[range]:
    """Neighbouring rows of at most `budget` tokens together, and at least one."""
    parts: list[range] = []
    tokens = 0
    for row, length in enumerate(lengths):
        if parts and tokens + length <= budget:
            parts[-1] = range(parts[-1].start, row + 1)
            tokens += length
        else:
            parts.append(range(row, row + 1))
            tokens = length
    return parts


def _layout(
    lengths: Sequence[int], begun: int, width: int, model: PreTrainedModel
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which slots hold tokens, and their positions: (rows, width) each."""
    slot = torch.arange(width, device=model.device).expand(len(lengths), -1)
    padding = torch.tensor([width - begun - length for length in lengths], device=model.device)[:, None]
    readable = (slot < begun) | (slot >= begun + padding)
    return readable, torch.where(slot < begun, slot, (slot - padding).clamp(min=0))


def _read(
    model: PreTrainedModel, cache: SlotCache, rests: Sequence[list[int]], first: int, begun: int, width: int
) -> torch.Tensor:
    """Read what follows the prefix in the rows from `first` on, end to end: the logits after each, rows x vocabulary.

    Args:
        begun: tokens of the prefix, which the cache has.
        width: slots up to which the cache is filled.
    """
    device = model.device
    lengths = [len(rest) for rest in rests]
    cache.written = _places([range(width - length, width) for length in lengths], first, device)
    cache.read = None
    if begun:
        # A row's queries see the prefix too, whose keys lie before its own.
        spans = [[*range(begun), *range(width - length, width)] for length in lengths]
        cache.read = _places(spans, first, device)
    output = model(
        **packed_inputs(rests, device, before=begun),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=torch.tensor(list(accumulate(lengths)), device=device) - 1,
    )
    cache.written = None
    logits: torch.Tensor = output.logits[0]
    return logits


def _places(slots: Sequence[Sequence[int]], first: int, device: torch.device) -> Places:
    """The given slots of the rows from `first` on."""
    rows = [first + row for row, each in enumerate(slots) for _ in each]
    return Places(
        torch.tensor(rows, device=device), torch.tensor([slot for each in slots for slot in each], device=device)
    )
