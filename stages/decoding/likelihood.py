"""How likely a model with its adapter finds summaries that are there already."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch.nn.functional import cross_entropy

from stages.engines.transformers_writer import TransformersWriter
from stages.layers.packed_attention import packed
from stages.layers.packed_rows import TrainingRow, pack, split
from stages.models.families import reads_packed

TOKENS = {"cuda": 4096, "cpu": 1024}
"""Of a forward pass: the logits of some thousand words in a summary are what takes memory."""


@torch.inference_mode()
def likelihoods(
    writer: TransformersWriter, dialogues: Sequence[str], summaries: Sequence[Sequence[str]]
) -> list[list[float]]:
    """The mean log probability of each summary's tokens, its end included, after the prompt of its dialogue, in nats.

    Args:
        summaries: of each dialogue.
    """
    model, builder = writer.model, writer.builder
    if writer.adapter is not None:
        model.set_adapter(writer.adapter)
    prompts = [builder.prompt_ids(dialogue) for dialogue in dialogues]
    rows = [
        TrainingRow(prompt, builder.completion_ids(text))
        for prompt, texts in zip(prompts, summaries, strict=True)
        for text in texts
    ]
    packs = reads_packed(model.config)
    lengths = [len(row) for row in rows]
    batches = split(lengths, TOKENS[model.device.type]) if packs else [[row] for row in range(len(rows))]
    found = [0.0] * len(rows)
    with packed(model) if packs else nullcontext():
        for batch in batches:
            for row, value in zip(batch, _means(model, [rows[row] for row in batch], packs), strict=True):
                found[row] = value
    values = iter(found)
    return [[next(values) for _ in texts] for texts in summaries]


def _means(model: torch.nn.Module, rows: Sequence[TrainingRow], packs: bool) -> list[float]:
    read = pack(rows, next(model.parameters()).device)
    inputs = read.inputs if packs else {"input_ids": read.inputs["input_ids"]}
    logits = model(**inputs, use_cache=False, logits_to_keep=read.positions).logits[0].float()
    losses = cross_entropy(logits, read.targets, reduction="none")
    sums = losses.new_zeros(len(rows)).index_add(0, read.rows, losses)
    means: list[float] = (-sums / torch.bincount(read.rows, minlength=len(rows))).tolist()
    return means
