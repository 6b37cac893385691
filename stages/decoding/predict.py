"""One summary for each dialogue, by the parameters of a run: searched, reranked, and written again where not Korean."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, chain, pairwise
from typing import Any

from stages.core.params import Params
from stages.corpus.hangul import hangul_share
from stages.corpus.thinking import without_thinking
from stages.decoding.postprocess import one_line, process
from stages.decoding.rerank import most_agreed, most_korean, propose
from stages.decoding.resume_log import ResumeLog
from stages.decoding.run_batches import run_batches
from stages.decoding.workers import Here, Workers, least_limits
from stages.engines.batches import Limits, Tell, batches, queues, slots
from stages.engines.settings import DecodingSettings
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
    if decoding.rerank == "mbr":
        names += ["samples", "ensemble", "prompts", "postprocess"]
    chosen = {name: getattr(decoding, name) for name in names}
    return {**chosen, "evaluate": params.evaluate.model_dump()} if decoding.rerank == "mbr" else chosen


@dataclass(frozen=True)
class Table:
    """Dialogues to summarize.

    Attributes:
        writer: the number of the one that writes alone; without, all of them have candidates.
    """

    dialogues: Sequence[str]
    writer: int | None = None


def predict_all(
    writers: Sequence[Writer], dialogues: Sequence[str], settings: DecodingSettings, params: Params, label: str
) -> list[Prediction]:
    """One answer a dialogue, in their order, by writers in this process."""
    return predict_tables(Here(writers), [Table(dialogues)], settings, params, label)[0]


def predict_tables(
    workers: Workers[Sequence[Writer]],
    tables: Sequence[Table],
    settings: DecodingSettings,
    params: Params,
    label: str,
    log: ResumeLog | None = None,
) -> list[list[Prediction]]:
    """One answer a dialogue, for each table in the order of its dialogues.

    A table's batches are the same whoever works on them, and no batch has rows of two tables.

    Args:
        log: what a killed run wrote is taken from it.
    """
    decoding = params.decoding
    lengths = workers.each(_prepare, tables)[0]
    limits = least_limits(workers, decoding)
    samples = decoding.samples if decoding.rerank == "mbr" else 0
    # Candidates come of several searches for the same prompts, which keep their places meanwhile.
    divide = batches if decoding.rerank == "mbr" else queues
    rows = [(table, dialogue) for table in tables for dialogue in table.dialogues]
    starts = list(accumulate((len(table.dialogues) for table in tables), initial=0))
    cut = [
        [start + row for row in batch]
        for start, end in pairwise(starts)
        for batch in divide(*slots(lengths[start:end], settings.num_beams, samples, settings.max_new_tokens), limits)
    ]

    def deal(missing: Sequence[list[int]], tell: Tell) -> Iterator[tuple[int, list[Prediction]]]:
        batches = [Table([rows[row][1] for row in batch], rows[batch[0]][0].writer) for batch in missing]
        return workers.deal(_predict, [(batch, settings, params, limits) for batch in batches], tell)

    answers = run_batches(deal, cut, label, log)
    return [answers[start:end] for start, end in pairwise(starts)]


def _prepare(writers: Sequence[Writer], tables: Sequence[Table]) -> list[int]:
    """The tokens of all prompts; each writer has read what those begin with that it writes after."""
    lengths: dict[int, int] = {}
    rows = [(table.writer, dialogue) for table in tables for dialogue in table.dialogues]
    for number, writer in enumerate(writers):
        own = {row: dialogue for row, (by, dialogue) in enumerate(rows) if by in (None, number)}
        prepared = zip(own, writer.prepare(list(own.values())), strict=True) if own else ()
        lengths = {**dict(prepared), **lengths}  # batches are cut by the first writer's
    return [lengths[row] for row in range(len(rows))]


def _writing(writers: Sequence[Writer], table: Table) -> Sequence[Writer]:
    return writers if table.writer is None else [writers[table.writer]]


def _predict(
    loaded: Sequence[Writer], tell: Tell, table: Table, settings: DecodingSettings, params: Params, limits: Limits
) -> list[Prediction]:
    """The answers of one batch."""
    writers, dialogues = _writing(loaded, table), table.dialogues
    decoding, seed = params.decoding, params.seed
    if decoding.rerank == "mbr":
        sampling = Sampling(decoding.samples, decoding.temperature, seed) if decoding.samples else None
        proposed = [list(chain.from_iterable(of)) for of in propose(writers, dialogues, settings, sampling)]
        objective = Objective.of(params.evaluate)
        processed = [[process(text, decoding.postprocess) for text in texts] for texts in proposed]
        chosen = most_agreed(processed, objective)
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
