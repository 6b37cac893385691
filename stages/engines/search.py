"""What a search for one summary is: the model's best next tokens go in at each step, choices come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

T = TypeVar("T")


@dataclass(frozen=True)
class Hypothesis:
    """A summary's ids, without the stop token, and what the search gives for it."""

    ids: list[int]
    score: float


class Proposals(NamedTuple):
    """The model's best next tokens after each hypothesis of a dialogue, best first: (hypotheses, wanted).

    Attributes:
        scores: log probabilities.
    """

    scores: NDArray[np.float64]
    ids: NDArray[np.int64]

    def options(self, hypothesis: int) -> list[tuple[float, int]]:
        """Those after one hypothesis, as (log probability, id)."""
        return list(zip(self.scores[hypothesis].tolist(), self.ids[hypothesis].tolist(), strict=True))


class Search(Protocol):
    """One dialogue's search."""

    wanted: int
    """Next tokens that have to be proposed after each hypothesis."""
    running: list[list[int]]
    """The hypotheses under way; each ends in the token that the model reads next."""
    parents: list[int]
    """For each of them, which one of the last step it continues; after the prompt there is none but that."""

    @property
    def done(self) -> bool: ...

    def advance(self, proposals: Proposals) -> None:
        """Take the next step; at the first, one hypothesis is proposed for: what follows the prompt."""

    def possible(self) -> list[list[int]]:
        """All hypotheses, ended or not, that the best result is or begins with."""

    def results(self) -> list[list[Hypothesis]]:
        """What was found, best first, once for each length penalty."""


def next_inputs(searches: Sequence[Search]) -> tuple[list[list[int]], list[list[int]]]:
    """The parents and the last tokens of all hypotheses: (searches, hypotheses).

    A search that is done, or has fewer hypotheses than another, has zeros, of which nobody reads what follows.
    """
    width = max(len(search.parents) for search in searches)
    parents = [[] if search.done else search.parents for search in searches]
    tokens = [[] if search.done else [ids[-1] for ids in search.running] for search in searches]
    return [filled(row, width, 0) for row in parents], [filled(row, width, 0) for row in tokens]


def filled(values: Sequence[T], count: int, filling: T) -> list[T]:
    """The first `count` values, and something else in the place of those that are missing.

    >>> filled([1, 2, 3], 2, 0), filled([1, 2, 3], 4, 0)
    ([1, 2], [1, 2, 3, 0])
    """
    return [*values[:count], *[filling] * (count - len(values))]


def without_stop(ids: Sequence[int], stop: int) -> list[int]:
    """The ids before a stop token at their end.

    >>> without_stop([5, 1], stop=1), without_stop([5], stop=1)
    ([5], [5])
    """
    return list(ids[:-1] if ids and ids[-1] == stop else ids)
