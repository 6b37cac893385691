"""One forward pass of a decoding step; on a GPU it is captured once as a CUDA graph and then replayed.

A step of a large model is thousands of small kernels, which Python starts more slowly than the GPU runs them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

import torch
from transformers import PreTrainedModel

from stages.engines.slot_cache import Places, SlotCache

logger = logging.getLogger(__name__)

Masks = torch.Tensor | dict[str, torch.Tensor]


class Step(Protocol):
    """Reads one token of each hypothesis, and gives the logits of what follows."""

    def __call__(
        self, tokens: torch.Tensor, positions: torch.Tensor, masks: Masks, slots: torch.Tensor, used: Sequence[int]
    ) -> torch.Tensor:
        """Logits (rows, hypotheses, vocabulary) for tokens (rows, hypotheses), written to slots of as many.

        Args:
            used: of each row, how many slots are in use, from the first.
        """


def step_for(model: PreTrainedModel, cache: SlotCache) -> Step:
    """A captured step where the model is on a GPU and its weights are not quantized, a plain one elsewhere."""
    if model.device.type == "cuda" and not getattr(model, "is_quantized", False):
        return CapturedStep(model, cache)
    return PlainStep(model, cache)


class PlainStep:
    """Runs the model; attention reads no more slots than are in use."""

    def __init__(self, model: PreTrainedModel, cache: SlotCache) -> None:
        self.model = model
        self.cache = cache

    def __call__(
        self, tokens: torch.Tensor, positions: torch.Tensor, masks: Masks, slots: torch.Tensor, used: Sequence[int]
    ) -> torch.Tensor:
        read = min(-(-max(used) // 64) * 64, self.cache.capacity)
        # A GPU reads all rows in one kernel, which wants its masks aligned.
        alone = used if self.model.device.type == "cpu" else None
        return _forward(self.model, self.cache, tokens, positions, _narrowed(masks, read), slots, read, alone)


class CapturedStep:
    """Replays the model's kernels over all slots; where capturing fails, it runs the model instead."""

    def __init__(self, model: PreTrainedModel, cache: SlotCache) -> None:
        self.model = model
        self.cache = cache
        self.graph: torch.cuda.CUDAGraph | None = None
        self.plain: PlainStep | None = None
        self.inputs: list[torch.Tensor] = []
        self.logits = torch.empty(0)

    def __call__(
        self, tokens: torch.Tensor, positions: torch.Tensor, masks: Masks, slots: torch.Tensor, used: Sequence[int]
    ) -> torch.Tensor:
        if self.graph is None and self.plain is None:
            self._capture(tokens, positions, masks, slots)
        if self.plain is not None:
            return self.plain(tokens, positions, masks, slots, used)
        given = [tokens, positions, slots, *(masks.values() if isinstance(masks, dict) else [masks])]
        for held, new in zip(self.inputs, given, strict=True):
            held.copy_(new)
        assert self.graph is not None
        self.graph.replay()
        return self.logits

    def _capture(self, tokens: torch.Tensor, positions: torch.Tensor, masks: Masks, slots: torch.Tensor) -> None:
        tokens, positions, slots = tokens.clone(), positions.clone(), slots.clone()
        held = {kind: mask.clone() for kind, mask in masks.items()} if isinstance(masks, dict) else masks.clone()
        arguments = (self.model, self.cache, tokens, positions, held, slots, self.cache.capacity)
        graph = torch.cuda.CUDAGraph()
        try:
            # Libraries set themselves up at a first run, which cannot be captured; it writes what the replay will.
            stream = torch.cuda.Stream()
            stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(stream):
                _forward(*arguments)
            torch.cuda.current_stream().wait_stream(stream)
            with torch.cuda.graph(graph):
                self.logits = _forward(*arguments)
        except RuntimeError as error:
            logger.info("decoding steps run without a CUDA graph: %s", str(error).splitlines()[0])
            self.plain = PlainStep(self.model, self.cache)
            return
        self.graph = graph
        self.inputs = [tokens, positions, slots, *(held.values() if isinstance(held, dict) else [held])]


def _forward(
    model: PreTrainedModel,
    cache: SlotCache,
    tokens: torch.Tensor,
    positions: torch.Tensor,
    masks: Masks,
    slots: torch.Tensor,
    read: int,
    used: Sequence[int] | None = None,
) -> torch.Tensor:
    rows, width = slots.shape
    cache.written = Places(torch.arange(rows, device=slots.device).repeat_interleave(width), slots.flatten())
    cache.read = read
    logits: torch.Tensor = model(
        input_ids=tokens,
        position_ids=positions,
        attention_mask=masks,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=0,
        used_slots=used,
    ).logits
    return logits


def _narrowed(masks: Masks, used: int) -> Masks:
    if isinstance(masks, dict):
        return {kind: mask[..., :used] for kind, mask in masks.items()}
    return masks[..., :used]
