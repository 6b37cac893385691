from __future__ import annotations

import random
from math import comb, sqrt

import pytest

from stages.scoring.bootstrap import Interval, interval, paired


def test_an_interval_is_as_wide_as_the_normal_approximation_says() -> None:
    rng = random.Random(0)
    values = [rng.gauss(40, 10) for _ in range(400)]
    mean = sum(values) / 400
    error = sqrt(sum((value - mean) ** 2 for value in values)) / 400
    found = interval(values)
    assert found.mean == pytest.approx(mean)
    assert found.low == pytest.approx(mean - 1.96 * error, abs=0.05)
    assert found.high == pytest.approx(mean + 1.96 * error, abs=0.05)


def test_intervals_hold_the_true_mean_in_19_of_20_samples() -> None:
    rng = random.Random(1)
    found = [interval([rng.uniform(0, 100) for _ in range(40)]) for _ in range(60)]
    assert 53 <= sum(each.low <= 50 <= each.high for each in found) <= 60


def test_rows_that_are_alike_leave_no_doubt() -> None:
    assert interval([7.5]) == Interval(7.5, 7.5, 7.5)
    assert interval([7.5] * 10) == Interval(7.5, 7.5, 7.5)


def test_the_same_values_give_the_same_numbers() -> None:
    values = [random.Random(2).random() for _ in range(50)]
    assert interval(values) == interval(values)
    assert paired(values, values[::-1]) == paired(values, values[::-1])


def test_p_is_the_share_of_tosses_that_do_as_well() -> None:
    # Every one of 8 rows gains: of 256 tosses two do as well, all heads and all tails.
    assert paired([10.0] * 8, [11, 12, 11, 13, 12, 11, 14, 11]).p == pytest.approx(2 / 256, abs=0.003)
    # 8 of 10 rows gain 1 and 2 lose 1: at least 8 alike, either way.
    tail = 2 * sum(comb(10, k) for k in (8, 9, 10)) / 2**10
    assert paired([0.0] * 10, [1.0] * 8 + [-1.0] * 2).p == pytest.approx(tail, abs=0.012)


def test_a_difference_has_a_direction() -> None:
    better = paired([10.0, 20, 30, 40, 50, 60], [12.0, 22, 32, 42, 52, 62])
    assert better.interval == Interval(2, 2, 2)
    assert better.is_real
    worse = paired([12.0, 22, 32, 42, 52, 62], [10.0, 20, 30, 40, 50, 60])
    assert worse.interval == Interval(-2, -2, -2)
    assert worse.p == better.p


def test_equal_systems_do_not_differ() -> None:
    same = paired([1.0, 2.0], [1.0, 2.0])
    assert same.p == 1
    assert not same.is_real


def test_chance_alone_is_called_real_in_one_of_20_comparisons() -> None:
    rng = random.Random(3)
    pairs = [([rng.random() for _ in range(30)], [rng.random() for _ in range(30)]) for _ in range(40)]
    assert sum(paired(first, second).is_real for first, second in pairs) <= 5


def test_rows_must_match() -> None:
    with pytest.raises(ValueError, match="zip"):
        paired([1.0], [1.0, 2.0])
