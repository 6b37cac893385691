from __future__ import annotations

import doctest

from stages.scoring import shape
from stages.scoring.shape import length_ratio


def test_examples() -> None:
    assert doctest.testmod(shape).failed == 0


def test_lengths_are_beside_the_mean_of_a_rows_references() -> None:
    # 2 + 6 characters beside the means of 4 and 4.
    assert length_ratio(["가나", "다라마바사아"], [["가나다라"], ["가나", "가나다라마바"]]) == 1
