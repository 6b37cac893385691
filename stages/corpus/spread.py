"""Which of many to take: some at even distances."""

from __future__ import annotations


def spread(length: int, n: int) -> list[int]:
    """At most `n` positions spread evenly over `length` rows.

    >>> spread(16, 4)
    [0, 4, 8, 12]
    """
    n = min(n, length)
    return [position * length // n for position in range(n)]
