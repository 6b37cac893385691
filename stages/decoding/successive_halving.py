"""Successive halving: few samples for many settings, more samples for the best of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TypeVar

S = TypeVar("S")
T = TypeVar("T")

FIRST = 4
"""Samples that every setting is tried on."""
FINALISTS = 4
"""Settings that are tried on all samples, so that there is a choice among those that chance cannot tell apart."""


def rungs(samples: int, settings: int) -> list[tuple[int, int]]:
    """How many samples, and for how many settings, each round has: the samples double, the settings halve.

    The last round has all samples, and the finalists.

    >>> rungs(16, 16), rungs(8, 3), rungs(3, 5)
    ([(4, 16), (8, 8), (16, 4)], [(4, 3), (8, 3)], [(3, 5)])
    """
    rounds = [(min(FIRST, samples), settings)]
    while rounds[-1][0] < samples:
        last, left = rounds[-1]
        rounds.append((min(2 * last, samples), max(min(FINALISTS, left), -(-left // 2))))
    return rounds


def halve(
    settings: Sequence[S],
    samples: Sequence[int],
    evaluate: Callable[[list[S], list[int]], list[list[T]]],
    score: Callable[[T], float],
) -> dict[S, list[T]]:
    """The outcomes of each setting, one for each sample that it was tried on, from the first on.

    Args:
        settings: all different; of equals the one named first stays.
        samples: in the order in which they are used.
        evaluate: tries some settings on some samples: (settings, samples).
        score: of an outcome; settings with the highest mean stay.
    """
    outcomes: dict[S, list[T]] = {setting: [] for setting in settings}
    kept = list(settings)
    done = 0
    for number, count in rungs(len(samples), len(settings)):
        if done:
            kept = sorted(kept, key=lambda setting: -fmean(map(score, outcomes[setting])))[:count]
        for setting, more in zip(kept, evaluate(kept, list(samples[done:number])), strict=True):
            outcomes[setting].extend(more)
        done = number
    return outcomes
