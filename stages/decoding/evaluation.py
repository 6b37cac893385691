"""Tries ways to write summaries on rows of dev: searches, and what minimum Bayes risk makes of their candidates."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from stages.core.params import Params
from stages.decoding.choice import Outcome
from stages.decoding.postprocess import process
from stages.decoding.rerank import most_agreed, propose
from stages.decoding.run_batches import run_batches
from stages.engines.batches import Tell, batches
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
Write = Callable[[Sequence[str]], list[list[str]]]
"""From dialogues to their summaries in several ways: (ways, dialogues)."""


class Evaluation:
    """Measures what each way writes of the rows, after postprocessing.

    Args:
        writers: the first searches; all of them have candidates to rerank.
    """

    def __init__(
        self,
        writers: Sequence[TransformersWriter],
        dialogues: Sequence[str],
        refs: Sequence[Sequence[str]],
        params: Params,
    ) -> None:
        self.writers = writers
        self.dialogues = dialogues
        self.refs = refs
        self.decoding = params.decoding
        self.sampling = Sampling(params.decoding.samples, params.decoding.temperature, params.seed)
        self.objective = Objective.of(params.evaluate)
        self.lengths, *_ = [writer.prepare(dialogues) for writer in writers]
        self.known: dict[Way, dict[int, Outcome]] = defaultdict(dict)
        """The outcomes so far, by settings and row."""

    def __call__(self, ways: Sequence[Way], rows: Sequence[int]) -> list[list[Outcome]]:
        """Outcomes: (ways, rows), memoized."""
        searched: dict[tuple[int, ...], list[DecodingSettings]] = defaultdict(list)
        reranked: dict[tuple[DecodingSettings, tuple[int, ...]], list[Reranked]] = defaultdict(list)
        for way in ways:
            unknown = tuple(row for row in rows if row not in self.known[way])
            if isinstance(way, Reranked):
                reranked[way.settings, unknown].append(way)
            else:
                searched[unknown].append(way)
        for unknown, alike in searched.items():
            beams = max(settings.num_beams for settings in alike)
            self._evaluate(alike, unknown, beams, partial(self._search, alike))
        for (settings, unknown), same in reranked.items():
            beams = max(settings.num_beams, self.sampling.count)
            self._evaluate(same, unknown, beams, partial(self._rerank, same))
        return [[self.known[way][row] for row in rows] for way in ways]

    def _evaluate(self, ways: Sequence[Way], rows: Sequence[int], beams: int, write: Write) -> None:
        def work(batch: list[int], tell: Tell) -> list[list[Outcome]]:
            texts = write([self.dialogues[rows[i]] for i in batch])
            tell(len(batch))
            return [[self._measure(summaries[i], rows[row]) for summaries in texts] for i, row in enumerate(batch)]

        room = beams * self.decoding.max_new_tokens
        alone = batches([self.lengths[row] for row in rows], room, self.writers[0].limits(self.decoding))
        by_row = run_batches(work, alone, f"{len(ways)} settings")
        for row, outcomes in zip(rows, by_row, strict=True):
            for way, outcome in zip(ways, outcomes, strict=True):
                self.known[way][row] = outcome

    def _search(self, ways: Sequence[DecodingSettings], dialogues: Sequence[str]) -> list[list[str]]:
        return self.writers[0].best(dialogues, ways)

    def _rerank(self, ways: Sequence[Reranked], dialogues: Sequence[str]) -> list[list[str]]:
        """The candidates that agree most, of one search with the samples of each way."""
        most = max(way.samples for way in ways)
        sampling = replace(self.sampling, count=most) if most else None
        proposed = propose(self.writers, dialogues, ways[0].settings, sampling)
        return [[self._agreed(of, most - way.samples) for of in proposed] for way in ways]

    def _agreed(self, candidates: Sequence[Sequence[str]], left_out: int) -> str:
        """The best of one dialogue's candidates, by writer, without that many of each one's last samples."""
        texts = [text for of in candidates for text in of[: len(of) - left_out]]
        return texts[most_agreed([process(text, self.decoding.postprocess) for text in texts], self.objective)]

    def _measure(self, text: str, row: int) -> Outcome:
        summary, refs = process(text, self.decoding.postprocess), self.refs[row]
        (score,) = self.objective.rows([summary], [refs])
        return Outcome(score, bool(repeated_words(summary)), len(summary), fmean(map(len, refs)))
