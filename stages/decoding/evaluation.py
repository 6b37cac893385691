"""Tries ways to write summaries on rows of dev: searches, and what minimum Bayes risk makes of their candidates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from statistics import fmean
from typing import Any

from stages.core.params import Params
from stages.decoding.choice import Outcome
from stages.decoding.postprocess import process
from stages.decoding.rerank import most_agreed, propose
from stages.decoding.run_batches import run_batches
from stages.decoding.workers import Workers, least_limits
from stages.engines.batches import Tell, batches, slots
from stages.engines.settings import DecodingSettings
from stages.engines.transformers_writer import TransformersWriter
from stages.engines.writer import Sampling
from stages.scoring.objective import Objective
from stages.scoring.shape import repeated_words


@dataclass(frozen=True)
class Reranked:
    """A search whose hypotheses, and as many samples, minimum Bayes risk chooses among."""

    settings: DecodingSettings
    samples: int


Way = DecodingSettings | Reranked
"""How summaries come about: by a search alone, or reranked."""
Request = tuple[Sequence[Way], Sequence[int]]
"""Ways, and the rows to try them on."""


@dataclass(frozen=True)
class Group:
    """Ways that are tried on the same rows, after prompts that are read once."""

    ways: list[Way]
    rows: tuple[int, ...]
    beams: int
    samples: int


class Evaluation:
    """Measures what each way writes of the rows, after postprocessing.

    Args:
        workers: of their writers the first searches; all of them have candidates to rerank.
    """

    def __init__(
        self,
        workers: Workers[Sequence[TransformersWriter]],
        dialogues: Sequence[str],
        refs: Sequence[Sequence[str]],
        params: Params,
    ) -> None:
        self.workers = workers
        self.dialogues = dialogues
        self.refs = refs
        self.params = params
        self.decoding = params.decoding
        self.objective = Objective.of(params.evaluate)
        self.lengths, *others = workers.each(_prepare, dialogues)[0]
        self.writers = 1 + len(others)
        self.limits = least_limits(workers, params.decoding)
        self.known: dict[Way, dict[int, Outcome]] = defaultdict(dict)
        """The outcomes so far, by settings and row."""

    def __call__(self, ways: Sequence[Way], rows: Sequence[int]) -> list[list[Outcome]]:
        """Outcomes: (ways, rows), memoized."""
        return self.all([(ways, rows)])[0]

    def all(self, requests: Sequence[Request]) -> list[list[list[Outcome]]]:
        """The same for requests that have no way and row in common, dealt to all workers together."""
        self._evaluate([group for ways, rows in requests for group in self._groups(ways, rows)])
        return [[[self.known[way][row] for row in rows] for way in ways] for ways, rows in requests]

    def _groups(self, ways: Sequence[Way], rows: Sequence[int]) -> list[Group]:
        """What is not known yet: searches together, and reranked ways by the search whose hypotheses they share."""
        alike: dict[tuple[DecodingSettings | None, tuple[int, ...]], list[Way]] = defaultdict(list)
        for way in ways:
            if unknown := tuple(row for row in rows if row not in self.known[way]):
                alike[way.settings if isinstance(way, Reranked) else None, unknown].append(way)
        return [self._group(of, unknown) for (_, unknown), of in alike.items()]

    def _group(self, ways: list[Way], rows: tuple[int, ...]) -> Group:
        beams = max(way.settings.num_beams if isinstance(way, Reranked) else way.num_beams for way in ways)
        return Group(ways, rows, beams, max(way.samples if isinstance(way, Reranked) else 0 for way in ways))

    def _evaluate(self, groups: Sequence[Group]) -> None:
        tried: list[tuple[Group, int]] = []
        cut: list[list[int]] = []
        for group in groups:
            lengths = [self.lengths[row] for row in group.rows]
            held = slots(lengths, group.beams, group.samples, self.decoding.max_new_tokens)
            alone = batches(*held, self.limits)
            cut += [[len(tried) + row for row in batch] for batch in alone]
            tried += [(group, row) for row in group.rows]

        def deal(missing: Sequence[list[int]], tell: Tell) -> Iterator[tuple[int, list[list[Outcome]]]]:
            rows = [[tried[i][1] for i in batch] for batch in missing]
            calls = [
                ([self.dialogues[row] for row in of], tried[batch[0]][0].ways, self.params)
                for batch, of in zip(missing, rows, strict=True)
            ]
            for number, texts in self.workers.deal(_write, calls, tell):
                yield number, [[self._measure(of[i], row) for of in texts] for i, row in enumerate(rows[number])]

        label = f"{len({way for group in groups for way in group.ways})} settings"
        for (group, row), outcomes in zip(tried, run_batches(deal, cut, label), strict=True):
            for way, outcome in zip(group.ways, outcomes, strict=True):
                self.known[way][row] = outcome

    def _measure(self, text: str, row: int) -> Outcome:
        summary, refs = process(text, self.decoding.postprocess), self.refs[row]
        (score,) = self.objective.rows([summary], [refs])
        return Outcome(score, bool(repeated_words(summary)), len(summary), fmean(map(len, refs)))


def _prepare(writers: Sequence[TransformersWriter], dialogues: Sequence[str]) -> list[list[int]]:
    return [writer.prepare(dialogues) for writer in writers]


def _write(
    writers: Sequence[TransformersWriter], tell: Tell, dialogues: Sequence[str], ways: Sequence[Any], params: Params
) -> list[list[str]]:
    """The summaries of a batch by ways of one group: (ways, dialogues)."""
    if isinstance(ways[0], Reranked):
        texts = _rerank(writers, dialogues, ways, params)
    else:
        texts = writers[0].best(dialogues, ways)
    tell(len(dialogues))
    return texts


def _rerank(
    writers: Sequence[TransformersWriter], dialogues: Sequence[str], ways: Sequence[Reranked], params: Params
) -> list[list[str]]:
    """The candidates that agree most, of one search with the samples of each way."""
    most = max(way.samples for way in ways)
    sampling = Sampling(most, params.decoding.temperature, params.seed) if most else None
    proposed = propose(writers, dialogues, ways[0].settings, sampling)
    objective, rules = Objective.of(params.evaluate), params.decoding.postprocess

    chosen = []
    for way in ways:
        # Of each writer's candidates the last samples are those that a way with fewer does not have.
        texts = [list(chain.from_iterable(of[: len(of) - most + way.samples] for of in by)) for by in proposed]
        best = most_agreed([[process(text, rules) for text in of] for of in texts], objective)
        chosen.append([of[place] for of, place in zip(texts, best, strict=True)])
    return chosen
