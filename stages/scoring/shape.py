"""What ROUGE rewards and a reader does not: repetition, and length beyond the references'."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from statistics import fmean

_REPEATED_WORDS = 3


def repeated_words(summary: str) -> list[str]:
    """The runs of three words that a text holds twice.

    >>> repeated_words("둘은 역에서 만나고, 둘은 역에서 만나고 웃습니다.")
    ['둘은 역에서 만나고']
    """
    words = re.sub(r"[.,]", " ", summary).split()
    runs = Counter(" ".join(words[i : i + _REPEATED_WORDS]) for i in range(len(words) - _REPEATED_WORDS + 1))
    return [run for run, times in runs.items() if times > 1]


def length_ratio(summaries: Sequence[str], references: Sequence[Sequence[str]]) -> float:
    """Characters of the summaries for each one of the references."""
    return sum(map(len, summaries)) / sum(fmean(map(len, row)) for row in references)
