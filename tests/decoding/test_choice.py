from __future__ import annotations

import doctest

from stages.decoding import choice
from stages.decoding.choice import Average, Outcome, best, within_noise


def outcomes(*scores: float, repeats: bool = False, length: int = 10) -> list[Outcome]:
    return [Outcome(score, repeats, length, 10.0) for score in scores]


def test_examples() -> None:
    assert doctest.testmod(choice).failed == 0


def test_a_summary_takes_lengths_together() -> None:
    together = [Outcome(30, True, 30, 20.0), Outcome(40, False, 10, 20.0)]
    assert Average.of(together) == Average(35, 50, 1.0)


def test_noise_is_one_standard_error_of_the_paired_difference() -> None:
    # Differences 3, -1, 3, -1: mean 1, standard deviation 2.3, standard error 1.15.
    assert within_noise([33, 29, 33, 29], [30, 30, 30, 30])
    # Differences 3, 1, 3, 1: mean 2, the same deviation of half the size.
    assert not within_noise([33, 31, 33, 31], [30, 30, 30, 30])
    assert not within_noise([31], [30])


def test_the_highest_score_wins_where_it_is_no_chance() -> None:
    tried = {"repeating": outcomes(40, 41, 40, 41, repeats=True, length=16), "plain": outcomes(30, 31, 30, 31)}
    assert best(tried) == "repeating"


def test_within_noise_fewer_repeats_and_a_fitting_length_win() -> None:
    noisy = (33.0, 29.0, 33.0, 29.0)
    plain = outcomes(30, 30, 30, 30)
    assert best({"repeating": outcomes(*noisy, repeats=True), "plain": plain}) == "plain"
    assert best({"long": outcomes(*noisy, length=15), "plain": plain}) == "plain"
    assert best({"short": outcomes(*noisy, length=6), "plain": plain}) == "plain"
    assert best({"noisy": outcomes(*noisy), "plain": plain}) == "noisy"


def test_of_equals_the_first_and_only_what_was_tried_to_the_end() -> None:
    assert best({"b": outcomes(30, 30), "a": outcomes(30, 30)}) == "b"
    assert best({"early": outcomes(90), "late": outcomes(30, 30)}) == "late"
