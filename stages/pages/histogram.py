"""Histograms of several series with the same bins and the same scale."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from stages.pages.phrase import say


@dataclass(frozen=True)
class Histograms:
    edges: list[int]
    """Where the bins begin; the last has no upper end."""
    series: dict[str, dict[str, float]]
    """For each series the percentages of its values in the bins, by what a bin holds: `10–19`, or `190 or more`."""

    @property
    def ceiling(self) -> float:
        """The highest percentage."""
        return max(max(percentages.values()) for percentages in self.series.values())

    @property
    def single(self) -> bool:
        """Whether every bin but the last holds one number."""
        return self.edges[-1] - self.edges[0] == len(self.edges) - 1


def histograms(series: Mapping[str, Sequence[float]]) -> Histograms | None:
    """The histograms, or None where there are no values at all."""
    pooled = [value for values in series.values() for value in values]
    if not pooled:
        return None
    edges = bins(pooled)
    names = [f"{edge:,}" if edge == end - 1 else f"{edge:,}–{end - 1:,}" for edge, end in pairwise(edges)]
    names.append(say("{edge} or more", "{edge} 이상", edge=f"{edges[-1]:,}"))
    drawn = {name: dict(zip(names, percentages(values, edges), strict=True)) for name, values in series.items()}
    return Histograms(edges, drawn)


def bins(values: Sequence[float], most: int = 20) -> list[int]:
    """The lower edges of at most `most` bins over 99% of the values, in steps of 1, 2, 5, 10, 20, 50, ..."""
    low, high = np.percentile(values, [0, 99])
    steps = (digit * 10**power for power in range(12) for digit in (1, 2, 5))
    step = next(step for step in steps if high // step - low // step < most)
    return [step * n for n in range(int(low // step), int(high // step) + 1)]


def percentages(values: Sequence[float], edges: Sequence[int]) -> list[float]:
    """The percentage of the values from each edge up to the next; the last bin has no upper end."""
    counts, _ = np.histogram(values, [*edges, math.inf])
    return [100 * int(count) / max(1, len(values)) for count in counts]
