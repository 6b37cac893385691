"""Searches whose hypotheses know nothing of each other: a greedy one, and samples."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

import torch

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
    """Next tokens drawn by their probability; `draw` does that for all dialogues at once.

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
        self.parents = [0] * len(self.generators)
        self.scores = [0.0] * len(self.generators)
        self.open = list(range(len(self.generators)))

    @property
    def done(self) -> bool:
        return not self.open

    def numbers(self) -> list[float]:
        """What the next token of each sample is drawn by, from 0 to 1; of one that has ended, nothing is drawn."""
        numbers = [0.0] * len(self.generators)
        for i in self.open:
            numbers[i] = self.generators[i].random()
        return numbers

    def may_stop(self) -> bool:
        return self.done or len(self.running[self.open[0]]) >= self.ending.least

    def advance(self, proposals: Proposals) -> None:
        """Take the next step, by the one token that was drawn for each sample."""
        scores, tokens = proposals.scores[:, 0].tolist(), proposals.ids[:, 0].tolist()
        first = not self.running[self.open[0]]
        self.parents = [0] * len(self.running) if first else list(range(len(self.running)))
        going_on = []
        for i in self.open:
            ids, score, token = self.running[i], scores[i], tokens[i]
            if self.ending.has_to_stop(ids):
                score, token = 0.0, self.ending.stop_id
            ids.append(token)
            self.scores[i] += score
            if token != self.ending.stop_id and len(ids) < self.ending.limit:
                going_on.append(i)
        self.open = going_on

    def possible(self) -> list[list[int]]:
        return [without_stop(ids, self.ending.stop_id) for ids in self.running]

    def results(self) -> list[list[Hypothesis]]:
        return [[Hypothesis(ids, score) for ids, score in zip(self.possible(), self.scores, strict=True)]]


def draw(values: torch.Tensor, ids: torch.Tensor, searches: Sequence[Samples]) -> tuple[torch.Tensor, torch.Tensor]:
    """Draw one of the best next tokens for each sample, on the device that has them.

    Args:
        values: (searches, samples, tokens), log probabilities, best first; (searches, 1, tokens) after prompts.
        ids: likewise.

    Returns:
        Log probability and id of the tokens drawn: (searches, samples, 1).
    """
    # By id, not by rank: in another batch rounding lets tokens of nearly one probability change ranks.
    ids, order = ids.sort(dim=-1)
    values = values.gather(-1, order)
    most = max(len(search.generators) for search in searches)
    drawn = [search.numbers() for search in searches]
    numbers = torch.tensor([[*row, *[0.0] * (most - len(row))] for row in drawn], dtype=torch.double)
    early = torch.tensor([[-1 if search.may_stop() else search.ending.stop_id] for search in searches])
    numbers, early = numbers.to(values.device), early.to(values.device)
    scaled = values.double() / searches[0].temperature
    sums = scaled.masked_fill(ids == early[:, :, None], -math.inf).softmax(dim=-1).cumsum(dim=-1)
    places = (sums <= numbers[..., None] * sums[..., -1:]).sum(dim=-1, keepdim=True).clamp(max=values.shape[-1] - 1)
    return values.expand(-1, most, -1).gather(2, places), ids.expand(-1, most, -1).gather(2, places)
