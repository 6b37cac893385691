from __future__ import annotations

import doctest

import pytest

from stages.decoding import successive_halving as halving
from stages.decoding.successive_halving import halve


def test_rounds() -> None:
    assert doctest.testmod(halving).failed == 0


@pytest.mark.parametrize("right", range(10))
def test_the_best_setting_is_tried_to_the_end_and_others_are_given_up(right: int) -> None:
    asked: list[tuple[int, int]] = []

    def evaluate(settings: list[int], samples: list[int]) -> list[list[float]]:
        asked.append((len(settings), len(samples)))
        return [[10.0 * (setting == right) + sample for sample in samples] for setting in settings]

    scores = halve(list(range(10)), [5, 1, 4, 1, 5, 9, 2, 6, 5, 3, 5, 8], evaluate, float)
    assert asked == [(10, 4), (5, 4), (4, 4)]
    assert len(scores[right]) == 12
    assert sorted(map(len, scores.values())) == [4] * 5 + [8] + [12] * 4


def test_of_equals_the_first_stay() -> None:
    names = list("fbadce")
    scores = halve(names, list(range(8)), lambda settings, samples: [[1.0] * len(samples) for _ in settings], float)
    assert [name for name, values in scores.items() if len(values) == 8] == list("fbad")


def test_one_setting_is_tried_on_all_samples() -> None:
    assert halve(["a"], [0, 1], lambda settings, samples: [[float(s) for s in samples]], float) == {"a": [0.0, 1.0]}
