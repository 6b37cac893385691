"""Writes summaries in batches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from tqdm import tqdm
from transformers import Cache, GenerationConfig, PreTrainedModel

from stages.common.prompt import PromptBuilder

LAST = [-1]
"""The position whose logits are wanted. A count of 1 would slice the hidden states, and the product of a strided
slice with the output embedding copies that embedding once a row on the CPU (a third of a gigabyte for Gemma 3)."""

_THINKING = re.compile(r"<think>.*?(</think>|$)", re.DOTALL)
_SPACE_AFTER_TAG = re.compile(r"(#Person\d+#) (?=(?:은|는|이|가|을|를|과|와|의|에게|도)(?:\s|$))")


@dataclass(frozen=True)
class DecodingSettings:
    """How a summary is searched for."""

    max_new_tokens: int
    num_beams: int = 1
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0


def summarise(
    model: PreTrainedModel,
    builder: PromptBuilder,
    dialogues: Sequence[str],
    settings: DecodingSettings,
    *,
    batch_size: int,
    label: str,
) -> list[str]:
    """Summarise dialogues in batches of similar length, longest first.

    Returns:
        One summary a dialogue, in the order given.
    """
    prompts = [builder.prompt_ids(dialogue) for dialogue in dialogues]
    order = sorted(range(len(prompts)), key=lambda row: len(prompts[row]), reverse=True)
    summaries = [""] * len(prompts)
    with tqdm(total=len(prompts), desc=label, unit="dialogue") as bar:
        for rows in _batches(order, batch_size):
            for row, text in zip(rows, _generate(model, builder, [prompts[r] for r in rows], settings), strict=True):
                summaries[row] = tidy(text)
            bar.update(len(rows))
    return summaries


def tidy(text: str) -> str:
    """A model's answer as one line: no thinking block, no space between a speaker tag and its particle.

    >>> tidy("#Person1# 은 웃습니다.\\n")
    '#Person1#은 웃습니다.'
    """
    text = " ".join(_THINKING.sub("", text).split())
    return _SPACE_AFTER_TAG.sub(r"\1", text)


def _batches(order: list[int], size: int) -> Iterator[list[int]]:
    for start in range(0, len(order), size):
        yield order[start : start + size]


def _generate(
    model: PreTrainedModel, builder: PromptBuilder, prompts: list[list[int]], settings: DecodingSettings
) -> list[str]:
    width = max(map(len, prompts))
    ids = torch.tensor([[builder.pad_id] * (width - len(prompt)) + prompt for prompt in prompts], device=model.device)
    mask = torch.tensor([[0] * (width - len(prompt)) + [1] * len(prompt) for prompt in prompts], device=model.device)
    # A configuration of our own: the checkpoint's may sample, or stop elsewhere.
    config = GenerationConfig(
        do_sample=False,
        num_beams=settings.num_beams,
        length_penalty=settings.length_penalty,
        repetition_penalty=settings.repetition_penalty,
        max_new_tokens=settings.max_new_tokens,
        eos_token_id=builder.stop_id,
        pad_token_id=builder.pad_id,
    )
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            attention_mask=mask,
            generation_config=config,
            past_key_values=_read_prompts(model, ids, mask, settings.num_beams),
            logits_to_keep=LAST,
        )
    completions = [_until(row, builder.stop_id) for row in output[:, width:].tolist()]
    texts: list[str] = builder.tokenizer.batch_decode(completions, skip_special_tokens=True)
    return texts


def _read_prompts(model: PreTrainedModel, ids: torch.Tensor, mask: torch.Tensor, beams: int) -> Cache:
    """Keys and values of all but the last prompt token, computed once and then repeated for each beam.

    `generate` by itself repeats the prompts first and reads each of them once a beam.
    """
    positions = (mask.cumsum(dim=1) - 1).clamp(min=0)
    cache: Cache = model(
        input_ids=ids[:, :-1],
        attention_mask=mask[:, :-1],
        position_ids=positions[:, :-1],
        use_cache=True,
        logits_to_keep=LAST,
    ).past_key_values
    if beams > 1:
        cache.batch_repeat_interleave(beams)
    return cache


def _until(ids: list[int], stop: int) -> list[int]:
    # What follows the stop token is padding, and a model without a padding token pads with an ordinary one.
    return ids[: ids.index(stop)] if stop in ids else ids
