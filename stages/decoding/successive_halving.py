"""Successive halving: few samples for many settings, more samples for the best of them."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
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
    parts: Sequence[Sequence[int]],
    evaluate: Callable[[list[tuple[list[S], list[int]]]], list[list[list[T]]]],
    score: Callable[[T], float],
) -> list[dict[S, list[T]]]:
    """For each part of the samples, the outcomes of each setting: one for each sample that it was tried on.

    The parts know nothing of each other; their rounds are evaluated together, for what several GPUs can do.

    Args:
        settings: all different; of equals the one named first stays.
        parts: samples in the order in which they are used.
        evaluate: tries some settings on some samples, for each of several (settings, samples).
        score: of an outcome; settings with the highest mean stay.
    """
    searches = [_halve(settings, samples, score) for samples in parts]
    found: list[dict[S, list[T]]] = [{} for _ in parts]
    asked = {number: next(search) for number, search in enumerate(searches)}
    while asked:
        answers = evaluate(list(asked.values()))
        for number, outcomes in zip(list(asked), answers, strict=True):
            try:
                asked[number] = searches[number].send(outcomes)
            except StopIteration as ended:
                found[number] = ended.value
                del asked[number]
    return found


def _halve(
    settings: Sequence[S], samples: Sequence[int], score: Callable[[T], float]
) -> Generator[tuple[list[S], list[int]], list[list[T]], dict[S, list[T]]]:
    """One part's: asks to try some settings on some samples, and is sent the outcomes."""
    outcomes: dict[S, list[T]] = {setting: [] for setting in settings}
    kept = list(settings)
    done = 0
    for number, count in rungs(len(samples), len(settings)):
        if done:
            kept = sorted(kept, key=lambda setting: -fmean(map(score, outcomes[setting])))[:count]
        tried = yield kept, list(samples[done:number])
        for setting, more in zip(kept, tried, strict=True):
            outcomes[setting].extend(more)
        done = number
    return outcomes
