"""How many dialogues are summarized at once: what memory holds of their keys and values."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Literal

import torch
from transformers import PreTrainedConfig, PreTrainedModel

Tell = Callable[[int], object]
"""Is told, as work goes on, how many more rows are done."""
CPU_SLOTS = 32_768
"""On a CPU more at once is no faster."""
SIDE_BY_SIDE = 8
"""Samples that share a copy of their prompt's keys and values. All read what any of them has there, so of more samples
each would read the others' tokens more than its own; of fewer, copies of the prompt would take the memory."""
USABLE = 0.9
"""Share of a GPU's memory; the rest is the driver's, and lost between allocations."""
ACTIVATIONS = 3 * 2**30
"""Bytes that reading prompts and the logits of a step take, at most."""
BYTES_PER_LOGIT = 10
"""As the model gives it, in float32, and once more for its normalisation."""
COPIED = 1.5
"""Rows that are not done yet are copied to a smaller cache when half are."""
LEAST_TOKENS = 2048
"""Where next to nothing is free: a dialogue or two."""
WAITING = 3
"""Batches that wait on a GPU, which takes as long for a step of few dialogues as of many."""


@dataclass(frozen=True)
class Limits:
    """The most that is generated at once.

    Attributes:
        rows: dialogues.
        tokens: slots for their keys and values.
        waiting: batches whose dialogues wait to take the places of the first batch's. What a killed run has to do
            again is all of them.
    """

    rows: int
    tokens: int = 1_000_000
    waiting: int = 0

    def at_once(self, width: int) -> int:
        """Dialogues at once, of `width` tokens with all that is written: at least one.

        >>> Limits(rows=8, tokens=100).at_once(30), Limits(rows=8, tokens=100).at_once(300)
        (3, 1)
        """
        return max(1, min(self.rows, self.tokens // width))


def limits_for(model: PreTrainedModel, rows: int, tokens: int | Literal["auto"], samples: int = 1) -> Limits:
    """The limits that `decoding.batch_size` and `decoding.max_tokens_per_batch` set for a model.

    On a GPU there are fewer rows where each has so many samples that the logits of a step would not fit.

    `auto` counts with the whole memory of the GPU, not with what is free: a run that goes on after a kill has to have
    the batches that it had before.
    """
    if model.device.type != "cuda":
        return Limits(rows, CPU_SLOTS if tokens == "auto" else tokens)
    vocabulary = model.config.get_text_config().vocab_size
    rows = min(rows, max(1, ACTIVATIONS // (samples * vocabulary * BYTES_PER_LOGIT)))
    if tokens != "auto":
        return Limits(rows, tokens, WAITING)
    _, total = torch.cuda.mem_get_info(model.device)
    free = USABLE * total - model.get_memory_footprint() - ACTIVATIONS
    most = int(free / COPIED / bytes_per_token(model.config, model.dtype.itemsize))
    return Limits(rows, max(LEAST_TOKENS, most), WAITING)


def bytes_per_token(config: PreTrainedConfig, itemsize: int) -> int:
    """Bytes of the keys and values of a token in all layers.

    >>> from transformers import LlamaConfig
    >>> bytes_per_token(LlamaConfig(num_hidden_layers=48, num_attention_heads=32, num_key_value_heads=8), 2)
    196608
    """
    text = config.get_text_config()
    heads = getattr(text, "num_key_value_heads", None) or text.num_attention_heads
    size = getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads
    return int(2 * text.num_hidden_layers * heads * size * itemsize)


def slots(lengths: Sequence[int], beams: int, samples: int, max_new_tokens: int) -> tuple[list[int], int]:
    """What is held of prompts of so many tokens, with their copies for samples, and of what is written after each.

    >>> slots([100, 90], beams=4, samples=0, max_new_tokens=10), slots([100], beams=1, samples=16, max_new_tokens=10)
    (([100, 90], 40), ([300], 170))
    """
    copies = 1 + math.ceil(samples / SIDE_BY_SIDE)
    return [copies * length for length in lengths], max_new_tokens * (beams + samples)


def batches(lengths: Sequence[int], room: int, limits: Limits) -> list[list[int]]:
    """Rows by length, longest first, as many at once as the limits allow.

    Args:
        lengths: tokens of each row's prompt.
        room: tokens that are written after a prompt, all beams together.

    >>> batches([10, 30, 20], room=10, limits=Limits(rows=8, tokens=80))
    [[1, 2], [0]]
    """
    filled: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if filled and len(filled[-1]) < limits.at_once(lengths[filled[-1][0]] + room):
            filled[-1].append(row)
        else:
            filled.append([row])
    return filled


def queues(lengths: Sequence[int], room: int, limits: Limits) -> list[list[int]]:
    """Batches, each with those that wait for its places.

    Where all batches have as many rows, each queue takes every so many-th row, and all take about as long: they can be
    dealt to several GPUs, which end together. Else shorter rows are together, of which more are held at once.

    >>> queues([10, 30, 20], room=10, limits=Limits(rows=1, waiting=1))
    [[1, 0], [2]]
    >>> queues([10, 30, 20, 5, 6], room=10, limits=Limits(rows=2, tokens=60, waiting=1))
    [[1, 2, 0], [4, 3]]
    """
    alone = batches(lengths, room, limits)
    size = 1 + limits.waiting
    if limits.waiting and all(len(batch) == limits.rows for batch in alone[:-1]):
        rows, count = list(chain.from_iterable(alone)), -(-len(alone) // size)
        return [rows[number::count] for number in range(count)]
    return [list(chain.from_iterable(alone[start : start + size])) for start in range(0, len(alone), size)]
