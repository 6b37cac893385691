"""Whether two models write the same, where one has the other's weights, folded or rounded otherwise."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from transformers import PreTrainedModel

from stages.models.prompt import PromptBuilder

LIKELIEST = 20
"""Tokens kept of each position: all logits of a summary take a hundred megabytes with Gemma's vocabulary."""


@dataclass(frozen=True)
class Expected:
    """What a model expects at each position of a summary (and its stop token), likeliest first."""

    tokens: Tensor
    """Token ids, positions x LIKELIEST."""
    logits: Tensor
    """Their logits in float32, of the same shape."""


@dataclass(frozen=True)
class Agreement:
    """How nearly a second model reads summaries as a first one does."""

    same: int
    """Positions at which both hold the same token for the likeliest."""
    positions: int
    difference: float
    """The largest difference between two logits of one token."""


def expect(model: PreTrainedModel, builder: PromptBuilder, dialogue: str, summary: str) -> Expected:
    """The likeliest tokens at each position of a summary, given the dialogue and the summary up to there."""
    logits, tokens = _logits(model, builder, dialogue, summary).topk(LIKELIEST)
    return Expected(tokens, logits)


def agreement(
    model: PreTrainedModel, builder: PromptBuilder, samples: list[tuple[str, str]], expected: list[Expected]
) -> Agreement:
    """Compare a model with what another one expects for the same dialogues and summaries."""
    same, positions, difference = 0, 0, 0.0
    for (dialogue, summary), first in zip(samples, expected, strict=True):
        logits = _logits(model, builder, dialogue, summary)
        same += int((logits.argmax(dim=-1) == first.tokens[:, 0]).sum())
        positions += len(logits)
        difference = max(difference, (logits.gather(1, first.tokens) - first.logits).abs().max().item())
    return Agreement(same, positions, difference)


def _logits(model: PreTrainedModel, builder: PromptBuilder, dialogue: str, summary: str) -> Tensor:
    """Logits in float32 on the CPU, positions x vocabulary."""
    completion = builder.completion_ids(summary)
    ids = torch.tensor([builder.prompt_ids(dialogue) + completion], device=model.device)
    with torch.inference_mode():
        # What follows the stop token is nobody's concern.
        logits: Tensor = model(input_ids=ids, logits_to_keep=len(completion) + 1).logits[0, :-1]
    return logits.float().cpu()
