"""Successive halving: few samples for many settings, more samples for the best of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import TypeVar

S = TypeVar("S")

FIRST = 4
"""Samples that every setting is tried on."""


def rungs(samples: int, settings: int) -> list[tuple[int, int]]:
    """How many samples, and for how many settings, each round has: the samples double, the settings halve.

    The last round has all samples.

    >>> rungs(16, 8), rungs(8, 3), rungs(3, 5)
    ([(4, 8), (8, 4), (16, 2)], [(4, 3), (8, 2)], [(3, 5)])
    """
    rounds = [(min(FIRST, samples), settings)]
    while rounds[-1][0] < samples:
        last, left = rounds[-1]
        rounds.append((min(2 * last, samples), max(2, -(-left // 2)) if left > 1 else 1))
    return rounds


def halve(
    settings: Sequence[S], samples: Sequence[int], evaluate: Callable[[list[S], list[int]], list[list[float]]]
) -> dict[S, list[float]]:
    """The scores of each setting, one for each sample that it was tried on, from the first on.

    Args:
        settings: all different; of equals the one named first stays.
        samples: in the order in which they are used.
        evaluate: scores some settings on some samples: (settings, samples).
    """
    scores: dict[S, list[float]] = {setting: [] for setting in settings}
    kept = list(settings)
    done = 0
    for number, count in rungs(len(samples), len(settings)):
        kept = ranked(scores, kept)[:count] if done else kept
        for setting, more in zip(kept, evaluate(kept, list(samples[done:number])), strict=True):
            scores[setting].extend(more)
        done = number
    return scores


def ranked(scores: dict[S, list[float]], settings: Sequence[S]) -> list[S]:
    """Settings by their mean score, best first."""
    return sorted(settings, key=lambda setting: -fmean(scores[setting]))


def best(scores: dict[S, list[float]]) -> S:
    """The best of the settings that were tried on the most samples."""
    most = max(map(len, scores.values()))
    return ranked(scores, [setting for setting, values in scores.items() if len(values) == most])[0]
