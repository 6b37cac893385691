"""One summary for each dialogue, by the parameters of a run: searched, reranked, and written again where not Korean."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain
from typing import Any, cast

from stages.core.params import Params
from stages.corpus.hangul import hangul_share
from stages.corpus.thinking import without_thinking
from stages.decoding.learned import Reranker
from stages.decoding.likelihood import likelihoods
from stages.decoding.postprocess import one_line, process
from stages.decoding.rerank import agreement, most_agreed, most_korean, propose
from stages.decoding.resume_log import ResumeLog
from stages.decoding.tables import Table, in_batches
from stages.decoding.workers import Here, Workers, least_limits
from stages.engines.batches import Limits, Tell, batches, queues, slots
from stages.engines.settings import DecodingSettings
from stages.engines.transformers_writer import TransformersWriter
from stages.engines.writer import Sampling, Writer
from stages.scoring.objective import Objective

TRIES = 4
"""Summaries sampled where the first is not Korean."""

Prediction = dict[str, str]
"""`first`, a summary as the model wrote it, and `text`, the one that stands after writing again."""


def shaping(params: Params) -> dict[str, Any]:
    """The settings, beside those of the search, that decide what `predict_tables` writes."""
    decoding = params.decoding
    names = ["engine", "batch_size", "max_tokens_per_batch", "rerank", "temperature", "min_hangul"]
    if decoding.rerank != "none":
        names += ["samples", "ensemble", "prompts", "postprocess"]
    chosen = {name: getattr(decoding, name) for name in names}
    return chosen if decoding.rerank == "none" else {**chosen, "evaluate": params.evaluate.model_dump()}


def predict_all(
    writers: Sequence[Writer],
    dialogues: Sequence[str],
    settings: DecodingSettings,
    params: Params,
    label: str,
    reranker: Reranker | None = None,
) -> list[Prediction]:
    """One answer a dialogue, in their order, by writers in this process."""
    return predict_tables(Here(writers), [Table(dialogues)], settings, params, label, reranker=reranker)[0]


def predict_tables(
    workers: Workers[Sequence[Writer]],
    tables: Sequence[Table],
    settings: DecodingSettings,
    params: Params,
    label: str,
    log: ResumeLog | None = None,
    reranker: Reranker | None = None,
) -> list[list[Prediction]]:
    """One answer a dialogue, for each table in the order of its dialogues.

    Args:
        log: what a killed run wrote is taken from it.
        reranker: with `decoding.rerank: learned`.
    """
    decoding = params.decoding
    limits = least_limits(workers, decoding)
    samples = 0 if decoding.rerank == "none" else decoding.samples
    # Candidates come of several searches for the same prompts, which keep their places meanwhile.
    divide = queues if decoding.rerank == "none" else batches
    return in_batches(
        workers,
        tables,
        _predict,
        (settings, params, limits, reranker),
        divide=lambda lengths: divide(*slots(lengths, settings.num_beams, samples, settings.max_new_tokens), limits),
        label=label,
        log=log,
    )


def _predict(
    loaded: Sequence[Writer],
    tell: Tell,
    table: Table,
    settings: DecodingSettings,
    params: Params,
    limits: Limits,
    reranker: Reranker | None,
) -> list[Prediction]:
    """The answers of one batch."""
    writers, dialogues = table.writers(loaded), table.dialogues
    decoding, seed = params.decoding, params.seed
    if decoding.rerank != "none":
        sampling = Sampling(decoding.samples, decoding.temperature, seed) if decoding.samples else None
        proposed = [list(chain.from_iterable(of)) for of in propose(writers, dialogues, settings, sampling)]
        processed = [[process(text, decoding.postprocess) for text in texts] for texts in proposed]
        chosen = _choose(writers, dialogues, processed, Objective.of(params.evaluate), reranker)
        firsts = [texts[best] for texts, best in zip(proposed, chosen, strict=True)]
        tell(len(dialogues))
    else:
        firsts = writers[0].write(dialogues, settings, limits, tell)
    answers = [{"first": one_line(text), "text": one_line(text)} for text in firsts]
    # A model may think in one language and answer in another.
    foreign = [row for row, text in enumerate(firsts) if hangul_share(without_thinking(text)) < decoding.min_hangul]
    if foreign:
        again = writers[0].samples(
            [dialogues[row] for row in foreign],
            replace(settings, num_beams=1),
            Sampling(TRIES, decoding.temperature, seed + 1),
            limits,
        )
        for row, texts in zip(foreign, again, strict=True):
            tried = [answers[row]["first"], *map(one_line, texts)]
            answers[row]["text"] = tried[most_korean(list(map(without_thinking, tried)), decoding.min_hangul)]
    return answers


def _choose(
    writers: Sequence[Writer],
    dialogues: Sequence[str],
    candidates: Sequence[Sequence[str]],
    objective: Objective,
    reranker: Reranker | None,
) -> list[int]:
    """The position of the best candidate of each dialogue: by what was learned, or else by minimum Bayes risk."""
    if reranker is None:
        return most_agreed(candidates, objective)
    reader = cast(TransformersWriter, writers[0])  # params.yaml asks for it
    values = likelihoods(reader, dialogues, candidates)
    return list(map(reranker.best, candidates, values, agreement(candidates, objective)))
