"""Beam search for one summary, on plain numbers.

It is that of transformers (`generate` with `early_stopping=False`): the same hypotheses with the same scores.
What runs on in a search does not depend on the length penalty, so one search serves several of them.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from stages.engines.search import Hypothesis, Proposals
from stages.engines.settings import Ending


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

    def advance(self, proposals: Proposals) -> None:
        length = len(self.running[0]) + 1
        # Each beam offers its stop token and as many others as could all be kept.
        offers = [
            (score + total, beam, token)
            for beam, (total, ids) in enumerate(zip(self.scores, self.running, strict=True))
            for score, token in self.ending.options(ids, proposals.options(beam))
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
