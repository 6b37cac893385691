"""How far scores can be trusted: confidence intervals and paired tests over rows, by resampling.

The same scores give the same numbers: the random generator has a fixed seed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 10_000
_CHUNK = 1_000


@dataclass(frozen=True)
class Interval:
    """A mean, and where it lies with 95% confidence."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Difference:
    """The second mean less the first with its 95% interval, and how probable so large a one is by chance."""

    interval: Interval
    p: float

    @property
    def is_real(self) -> bool:
        """Whether chance is an explanation to be given up, at the 5% level."""
        return self.p < 0.05


def interval(values: Sequence[float]) -> Interval:
    """The percentile bootstrap of a mean: rows are drawn anew, as many as there are, `RESAMPLES` times.

    Args:
        values: a score for each row, at least one; of one row, the interval is that score.
    """
    scores = np.asarray(values, dtype=float)
    rng = np.random.default_rng(0)
    means = np.concatenate(
        [scores[rng.integers(0, len(scores), (_CHUNK, len(scores)))].mean(axis=1) for _ in _chunks()]
    )
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(scores.mean()), float(low), float(high))


def paired(first: Sequence[float], second: Sequence[float]) -> Difference:
    """Compare two systems on the same rows.

    The interval is a bootstrap of the rows' differences. p is by approximate randomisation, two-sided: each row
    hands its two scores to the systems by the toss of a coin, `RESAMPLES` times.

    Args:
        first: a score for each row, at least one.
        second: the other system's scores of the same rows.

    Raises:
        ValueError: not as many scores as the other system has.
    """
    differences = np.array([b - a for a, b in zip(first, second, strict=True)])
    observed = abs(differences.sum())
    rng = np.random.default_rng(0)
    # Sums in another order differ in their last bits: those are no difference.
    as_large = sum(int((abs(_tossed(differences, rng)) >= observed - 1e-9).sum()) for _ in _chunks())
    return Difference(interval(differences.tolist()), (as_large + 1) / (RESAMPLES + 1))


def _tossed(differences: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    signs = 2.0 * rng.integers(0, 2, (_CHUNK, len(differences))) - 1
    sums: NDArray[np.float64] = signs @ differences
    return sums


def _chunks() -> range:
    return range(RESAMPLES // _CHUNK)
