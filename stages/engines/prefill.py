"""Reads prompts once, for any number of searches after them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, takewhile

import torch
from transformers import PreTrainedModel

from stages.engines.padded_rows import PaddedRows
from stages.engines.slot_cache import Places, SlotCache
from stages.layers.packed_attention import packed
from stages.layers.packed_rows import packed_inputs
from stages.models.families import reads_packed

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
        prefix: what all of them begin with, and all that may take their places.
        cache: their keys and values, each in the first slots of its row, and room for what is to be written; or, of a
            model that reads no packed rows, its own state.
        logits: (rows, vocabulary), what follows each prompt, in float32.
    """

    ids: list[list[int]]
    prefix: Prefix
    cache: SlotCache | PaddedRows
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
    """Read the beginning of prompts; of a model that reads no packed rows, nothing is read ahead."""
    if not reads_packed(model.config):
        ids = []
    cache = SlotCache(1, len(ids))
    if ids:
        with packed(model):
            _read(model, cache, [list(ids)], [0], 0)
    return Prefix(list(ids), cache)


@torch.inference_mode()
def read_prompts(model: PreTrainedModel, prompts: Sequence[Sequence[int]], prefix: Prefix, room: int) -> Prompts:
    """Read prompts that begin with `prefix`; `room` slots are left for what is written after the longest."""
    if not reads_packed(model.config):
        rows = PaddedRows(model, prompts)
        return Prompts([list(each) for each in prompts], prefix, rows, rows.logits)
    cache = SlotCache(len(prompts), _capacity(prompts, room))
    cache.put(prefix.cache)
    logits = read_into(model, cache, prompts, range(len(prompts)), prefix)
    return Prompts([list(each) for each in prompts], prefix, cache, logits)


@torch.inference_mode()
def read_into(
    model: PreTrainedModel, cache: SlotCache, prompts: Sequence[Sequence[int]], rows: Sequence[int], prefix: Prefix
) -> torch.Tensor:
    """Read prompts into rows of a cache that begin with `prefix`, several at a time: the logits after each, float32."""
    begun = len(prefix.ids)
    rests = [list(ids[begun:]) for ids in prompts]
    budget = READ_AT_ONCE.get(model.device.type, READ_AT_ONCE["cpu"])
    with packed(model):
        logits = [
            _read(model, cache, rests[part.start : part.stop], rows[part.start : part.stop], begun)
            for part in _parts([len(rest) for rest in rests], budget)
        ]
    return torch.cat(logits).float()


@torch.inference_mode()
def repeat_prompts(prompts: Prompts, times: int, room: int) -> Prompts:
    """Each prompt so many times, for searches of the same dialogue that read nothing of each other."""
    ids = [each for each in prompts.ids for _ in range(times)]
    cache: SlotCache | PaddedRows
    if isinstance(prompts.cache, SlotCache):
        cache = prompts.cache.copies(times, _capacity(prompts.ids, room))
    else:
        cache = prompts.cache.repeated(times)
    return Prompts(ids, prompts.prefix, cache, prompts.logits.repeat_interleave(times, dim=0))


def _capacity(prompts: Sequence[Sequence[int]], room: int) -> int:
    """Slots of a row; masks of GPU kernels want their rows aligned."""
    return -(-(max(map(len, prompts)) + room) // 8) * 8


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


def _read(
    model: PreTrainedModel, cache: SlotCache, rests: Sequence[list[int]], rows: Sequence[int], begun: int
) -> torch.Tensor:
    """Read what follows the prefix in some rows, end to end: the logits after each, rows x vocabulary.

    Args:
        begun: tokens of the prefix, which the cache has.
    """
    device = model.device
    ends = [begun + len(rest) for rest in rests]
    cache.written = _places([range(begun, end) for end in ends], rows, device)
    # A row's queries see the prefix too, whose keys lie before its own.
    cache.read = _places([range(end) for end in ends], rows, device) if begun else None
    output = model(
        **packed_inputs(rests, device, before=begun),
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=torch.tensor(list(accumulate(map(len, rests))), device=device) - 1,
    )
    logits: torch.Tensor = output.logits[0]
    return logits


def _places(slots: Sequence[Sequence[int]], rows: Sequence[int], device: torch.device) -> Places:
    """The given slots of each of the rows."""
    numbers = [row for row, each in zip(rows, slots, strict=True) for _ in each]
    return Places(
        torch.tensor(numbers, device=device), torch.tensor([slot for each in slots for slot in each], device=device)
    )
