"""Searches whose hypotheses know nothing of each other: a greedy one, and samples."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from stages.engines.search import Hypothesis, Proposals, without_stop
from stages.engines.settings import Ending

SAMPLED_FROM = 50
"""A sample's next token is one of the model's 50 best, as in transformers."""


class Greedy:
    """The best next token, each time."""

    def __init__(self, ending: Ending) -> None:
        self.ending = ending
        self.wanted = 2 if ending.least else 1  # one of them may be a stop that is not allowed yet
        self.running: list[list[int]] = [[]]
        self.parents = [0]
        self.score = 0.0
        self.done = False

    def advance(self, proposals: Proposals) -> None:
        [ids] = self.running
        score, token = self.ending.options(ids, proposals.options(0))[0]
        self.score += score
        ids.append(token)
        self.done = token == self.ending.stop_id or len(ids) >= self.ending.limit

    def possible(self) -> list[list[int]]:
        return [without_stop(ids, self.ending.stop_id) for ids in self.running]

    def results(self) -> list[list[Hypothesis]]:
        return [[Hypothesis(ids, self.score) for ids in self.possible()]]


class Samples:
    """Next tokens drawn by their probability.

    Thousands of hypotheses may be under way, so a step draws for all of a dialogue at once.

    Args:
        generators: one for each sample, which draws once a token, whoever else is in the batch.
        temperature: what log probabilities are divided by.
    """

    def __init__(self, ending: Ending, generators: Sequence[random.Random], temperature: float) -> None:
        self.ending = ending
        self.generators = list(generators)
        self.temperature = temperature
        self.wanted = SAMPLED_FROM
        self.running: list[list[int]] = [[] for _ in self.generators]
        self.parents = list(range(len(self.generators)))
        self.scores = [0.0] * len(self.generators)
        self.open = list(self.parents)

    @property
    def done(self) -> bool:
        return not self.open

    def advance(self, proposals: Proposals) -> None:
        first = len(proposals.scores) < len(self.running)
        length = len(self.running[self.open[0]])
        places = [0] * len(self.open) if first else self.open
        self.parents = [0] * len(self.running) if first else list(range(len(self.running)))
        scores, ids = proposals.scores[places], proposals.ids[places]
        allowed = ids != self.ending.stop_id if length < self.ending.least else np.full(ids.shape, True)
        drawn = _draw(scores, allowed, self.temperature, [self.generators[i].random() for i in self.open])
        going_on = []
        for row, i in enumerate(self.open):
            if length >= self.ending.most and self.ending.has_to_stop(self.running[i]):
                token = self.ending.stop_id
            else:
                token = int(ids[row, drawn[row]])
                self.scores[i] += float(scores[row, drawn[row]])
            self.running[i].append(token)
            if token != self.ending.stop_id and length + 1 < self.ending.limit:
                going_on.append(i)
        self.open = going_on

    def possible(self) -> list[list[int]]:
        return [without_stop(ids, self.ending.stop_id) for ids in self.running]

    def results(self) -> list[list[Hypothesis]]:
        return [[Hypothesis(ids, score) for ids, score in zip(self.possible(), self.scores, strict=True)]]


def _draw(
    scores: NDArray[np.float64], allowed: NDArray[np.bool_], temperature: float, numbers: Sequence[float]
) -> NDArray[np.int64]:
    """For each row of log probabilities, best first, the place that a number from 0 to 1 falls on."""
    weights = np.where(allowed, np.exp((scores - scores[:, :1]) / temperature), 0.0)
    sums = weights.cumsum(axis=1)
    places: NDArray[np.int64] = np.sum(sums <= np.array(numbers)[:, None] * sums[:, -1:], axis=1)
    return places.clip(max=scores.shape[1] - 1)
