"""Searches for one summary, step by step, on plain numbers: the model's best next tokens go in, choices come out.

Beam search is that of transformers (`generate` with `early_stopping=False`): the same hypotheses with the same scores.
What runs on in a search does not depend on the length penalty, so one search serves several of them.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from stages.engines.settings import Ending

Proposal = Sequence[tuple[float, int]]
"""The model's best next tokens after one hypothesis, as (log probability, id), best first."""


@dataclass(frozen=True)
class Hypothesis:
    """A summary's ids, without the stop token, and what the search gives for it."""

    ids: list[int]
    score: float


class Search(Protocol):
    """One dialogue's search."""

    wanted: int
    """Next tokens that have to be proposed after each hypothesis."""
    running: list[list[int]]
    """The hypotheses under way; each ends in the token that the model reads next."""
    parents: list[int]
    """For each of them, which one of the last step it continues."""

    @property
    def done(self) -> bool: ...

    def advance(self, proposals: Sequence[Proposal]) -> None:
        """Take the next step; at the first, the one proposal is what follows the prompt."""

    def possible(self) -> list[list[int]]:
        """All hypotheses, ended or not, that the best result is or begins with."""

    def results(self) -> list[list[Hypothesis]]:
        """What was found, best first, once for each length penalty."""


class Chains:
    """Hypotheses that know nothing of each other: a greedy one, or samples.

    Args:
        generators: one for each sample; none searches greedily.
        temperature: what the samples' log probabilities are divided by.
    """

    def __init__(self, ending: Ending, generators: Sequence[random.Random] = (), temperature: float = 1.0) -> None:
        self.ending = ending
        self.generators = list(generators)
        self.temperature = temperature
        greedy = 2 if ending.least else 1  # one of them may be a stop that is not allowed yet
        self.wanted = SAMPLED_FROM if generators else greedy
        count = max(1, len(self.generators))
        self.running: list[list[int]] = [[] for _ in range(count)]
        self.parents = list(range(count))
        self.scores = [0.0] * count
        self.closed = [False] * count

    @property
    def done(self) -> bool:
        return all(self.closed)

    def advance(self, proposals: Sequence[Proposal]) -> None:
        first = len(proposals) < len(self.running)
        self.parents = [0] * len(self.running) if first else list(range(len(self.running)))
        for i, ids in enumerate(self.running):
            if not self.closed[i]:
                options = self.ending.options(ids, proposals[0 if first else i])
                score, token = self._choose(options, i)
                self.scores[i] += score
                self.closed[i] = token == self.ending.stop_id or len(ids) + 1 >= self.ending.limit
                ids.append(token)

    def possible(self) -> list[list[int]]:
        return [_without(ids, self.ending.stop_id) for ids in self.running]

    def results(self) -> list[list[Hypothesis]]:
        return [[Hypothesis(ids, score) for ids, score in zip(self.possible(), self.scores, strict=True)]]

    def _choose(self, options: list[tuple[float, int]], i: int) -> tuple[float, int]:
        if not self.generators:
            return options[0]
        best = options[0][0]
        weights = [math.exp((score - best) / self.temperature) for score, _ in options]
        return self.generators[i].choices(options, weights)[0]


SAMPLED_FROM = 50
"""A sample's next token is one of the model's 50 best, as in transformers."""


@dataclass
class _Pool:
    """The best finished hypotheses under one length penalty."""

    length_penalty: float
    size: int
    open: bool = True
    finished: list[Hypothesis] = field(default_factory=list)

    def add(self, ids: list[int], log_probability: float, length: int) -> None:
        self.finished.append(Hypothesis(ids, log_probability / length**self.length_penalty))
        self.finished = sorted(self.finished, key=lambda hypothesis: -hypothesis.score)[: self.size]

    def close_if_settled(self, best_running: float, length: int) -> None:
        """Close it once the best hypothesis under way would not get in, ended here."""
        if len(self.finished) == self.size:
            self.open = self.open and best_running / length**self.length_penalty > self.finished[-1].score


class BeamSearch:
    """Beam search, with one result for each length penalty."""

    def __init__(self, ending: Ending, num_beams: int, length_penalties: Sequence[float]) -> None:
        self.ending = ending
        self.num_beams = num_beams
        self.wanted = 2 * num_beams + 1  # one of them may be a stop that is not allowed yet
        self.running: list[list[int]] = [[]]
        self.scores = [0.0]
        self.parents = [0]
        self.pools = [_Pool(penalty, num_beams) for penalty in length_penalties]

    @property
    def done(self) -> bool:
        return not any(pool.open for pool in self.pools)

    def advance(self, proposals: Sequence[Proposal]) -> None:
        length = len(self.running[0]) + 1
        # Each beam offers its stop token and as many others as could all be kept.
        offers = [
            (score + total, beam, token)
            for beam, (total, ids, proposal) in enumerate(zip(self.scores, self.running, proposals, strict=True))
            for score, token in self.ending.options(ids, proposal)
        ]
        offers = sorted(offers, key=lambda option: -option[0])[: 2 * self.num_beams]
        at_limit = length >= self.ending.limit
        running: list[tuple[float, int, int]] = []
        for rank, (score, beam, token) in enumerate(offers):
            stops = token == self.ending.stop_id
            if (stops or at_limit) and rank < self.num_beams:
                ids = self.running[beam] if stops else [*self.running[beam], token]
                for pool in self.pools:
                    if pool.open:
                        pool.add(ids, score, length)
            if not stops and len(running) < self.num_beams:
                running.append((score, beam, token))
        if at_limit or not running:
            for pool in self.pools:
                pool.open = False
            return
        while len(running) < self.num_beams:  # beams that had to stop leave room: their places go on as copies
            running.append((-math.inf, *running[0][1:]))
        self.scores = [score for score, _, _ in running]
        self.parents = [beam for _, beam, _ in running]
        self.running = [[*self.running[beam], token] for _, beam, token in running]
        for pool in self.pools:
            pool.close_if_settled(self.scores[0], length)

    def possible(self) -> list[list[int]]:
        ended = [hypothesis.ids for pool in self.pools for hypothesis in pool.finished]
        return ended if self.done else [*self.running, *ended]

    def results(self) -> list[list[Hypothesis]]:
        return [pool.finished for pool in self.pools]


def _without(ids: list[int], stop: int) -> list[int]:
    return ids[:-1] if ids and ids[-1] == stop else ids
