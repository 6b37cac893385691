from __future__ import annotations

import doctest
from collections.abc import Callable
from typing import Any

import pytest

from stages.decoding import successive_halving as halving
from stages.decoding.successive_halving import halve

Evaluate = Callable[[list[tuple[list[Any], list[int]]]], list[list[list[float]]]]


def each(evaluate: Callable[[list[Any], list[int]], list[list[float]]]) -> Evaluate:
    return lambda requests: [evaluate(*request) for request in requests]


def test_rounds() -> None:
    assert doctest.testmod(halving).failed == 0


@pytest.mark.parametrize("right", range(10))
def test_the_best_setting_is_tried_to_the_end_and_others_are_given_up(right: int) -> None:
    asked: list[tuple[int, int]] = []

    def evaluate(settings: list[int], samples: list[int]) -> list[list[float]]:
        asked.append((len(settings), len(samples)))
        return [[10.0 * (setting == right) + sample for sample in samples] for setting in settings]

    [scores] = halve(list(range(10)), [[5, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8]], each(evaluate), float)
    assert asked == [(10, 4), (5, 4), (4, 4)]
    assert len(scores[right]) == 12
    assert sorted(map(len, scores.values())) == [4] * 5 + [8] + [12] * 4


def test_of_equals_the_first_stay() -> None:
    names = list("fbadce")
    alike = each(lambda settings, samples: [[1.0] * len(samples) for _ in settings])
    [scores] = halve(names, [list(range(8))], alike, float)
    assert [name for name, values in scores.items() if len(values) == 8] == list("fbad")


def test_one_setting_is_tried_on_all_samples() -> None:
    as_numbered = each(lambda settings, samples: [[float(s) for s in samples]])
    assert halve(["a"], [[0, 1]], as_numbered, float) == [{"a": [0.0, 1.0]}]


def test_rounds_of_several_parts_are_asked_for_together_and_decided_apart() -> None:
    """One part likes the first settings best, the other, which has a round more, the last ones."""
    asked: list[list[tuple[int, list[int]]]] = []

    def evaluate(requests: list[tuple[list[int], list[int]]]) -> list[list[list[float]]]:
        asked.append([(len(settings), samples) for settings, samples in requests])
        return [
            [[float(setting if sample % 2 else -setting) for sample in samples] for setting in settings]
            for settings, samples in requests
        ]

    even, odd = halve(list(range(6)), [[0, 2, 4, 6], [1, 3, 5, 7, 9]], evaluate, float)
    assert asked == [[(6, [0, 2, 4, 6]), (6, [1, 3, 5, 7])], [(4, [9])]]
    assert even == {setting: [-float(setting)] * 4 for setting in range(6)}
    assert odd == {setting: [float(setting)] * (5 if setting > 1 else 4) for setting in range(6)}
