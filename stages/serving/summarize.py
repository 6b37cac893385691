"""Summarizes dialogues with a model in memory: what export, benchmarks and a model card's example call."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from transformers import PreTrainedModel

from stages.decoding.postprocess import RULES, process
from stages.decoding.run_batches import run_batches
from stages.engines.batches import WAITING, Limits, Tell, queues
from stages.engines.settings import DecodingSettings
from stages.engines.transformers_writer import TransformersWriter
from stages.models.prompt import PromptBuilder


def summarize(
    model: PreTrainedModel,
    builder: PromptBuilder,
    dialogues: Sequence[str],
    settings: DecodingSettings,
    *,
    batch_size: int,
    label: str,
    rules: Iterable[str] = tuple(RULES),
) -> list[str]:
    """Summarize dialogues in batches of similar length, longest first.

    Returns:
        One summary a dialogue, in the order given, after the rules of `stages.decoding.postprocess`.
    """
    writer = TransformersWriter(model, builder)
    limits = Limits(batch_size, waiting=WAITING)

    def deal(batches: Sequence[list[int]], tell: Tell) -> Iterator[tuple[int, list[str]]]:
        for number, rows in enumerate(batches):
            texts = writer.write([dialogues[row] for row in rows], settings, limits, tell)
            yield number, [process(text, rules) for text in texts]

    lengths = writer.prepare(dialogues)
    return run_batches(deal, queues(lengths, settings.num_beams * settings.max_new_tokens, limits), label)
