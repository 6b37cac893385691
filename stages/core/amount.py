"""Amounts that stand for a count, or for a share of what there is: `8`, or `20%`."""

from __future__ import annotations

import math


def count_of(amount: int | str, whole: float) -> int:
    """How many of `whole` an amount stands for: a count as it is, a share rounded half up, and of something at least 1.

    >>> count_of(8, 1000), count_of("20%", 1000), count_of("0.01%", 1000), count_of("0%", 1000), count_of("50%", 0)
    (8, 200, 1, 0, 0)
    """
    if isinstance(amount, int):
        return amount
    share = float(amount.removesuffix("%")) / 100
    return max(math.floor(whole * share + 0.5), 1 if whole and share else 0)
