"""Which settings of a sweep win, and what that is worth: one half of dev chooses, the other tells the gain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from stages.core.errors import UserError
from stages.core.params import Settings
from stages.decoding.choice import Average, within_noise
from stages.scoring.bootstrap import Difference, interval, paired
from stages.scoring.objective import OBJECTIVES

LEAST_ROWS = 4
ALIKE = 0.1
"""Difference in shape that counts as none: one summary in ten that repeats itself, or a tenth too long or too short."""


@dataclass(frozen=True)
class Run:
    """A run of a sweep.

    Attributes:
        changes: what it has otherwise than params.yaml; nothing, for the run that others are compared with.
        scores: of each dialogue of dev, by the objective.
        rows_trained: how many rows training took, each time that it took one.
        repeats: percent of dev's summaries that say the same three words twice.
        length_ratio: characters of dev's summaries for each one of the references.
    """

    changes: Settings
    scores: Sequence[float]
    rows_trained: int
    repeats: float
    length_ratio: float


@dataclass(frozen=True)
class Line:
    """A run's line of the table: what it scores on the half that chooses, and what it gains on the other.

    Attributes:
        gain: over the run without changes; None for that one.
        is_as_good: whether it is within noise of the best, on the half that chooses.
    """

    run: Run
    choosing: float
    telling: float
    gain: Difference | None
    is_as_good: bool


def objective_of(finals: Mapping[str, float], objective: str) -> float:
    """A row's score by the objective, from those that are kept of it."""
    return fmean(finals[name] for name in OBJECTIVES[objective])


def choosing(scores: Sequence[float]) -> Sequence[float]:
    """The half of dev that chooses: its first row, its third, and so on, as rows of a kind often stand together."""
    return scores[::2]


def telling(scores: Sequence[float]) -> Sequence[float]:
    """The half of dev that chose nothing."""
    return scores[1::2]


def compare(runs: Sequence[Run]) -> list[Line]:
    """A line for each run, in their order; the first is the one without changes.

    Raises:
        UserError: dev has too few rows to be halved.
    """
    base = runs[0]
    if len(base.scores) < LEAST_ROWS:
        raise UserError(f"dev: {len(base.scores)} scored rows; a sweep needs at least {LEAST_ROWS}")
    best = max(runs, key=lambda run: fmean(choosing(run.scores)))
    return [
        Line(
            run=run,
            choosing=fmean(choosing(run.scores)),
            telling=fmean(telling(run.scores)),
            gain=None if run is base else paired(telling(base.scores), telling(run.scores)),
            is_as_good=run is best or within_noise(choosing(best.scores), choosing(run.scores)),
        )
        for run in runs
    ]


def winner(lines: Sequence[Line]) -> Line:
    """Of the runs within noise of the best, one whose summaries have about the best shape: few repeats, a fair length.

    Of these it is the one without changes, else the one that trains on the fewest rows; then the one with the higher
    score on the half that chooses, then the one that changes less.
    """
    as_good = [line for line in lines if line.is_as_good]
    least = min(map(misshape, as_good))
    return min(
        (line for line in as_good if misshape(line) <= least + ALIKE),
        key=lambda line: (bool(line.run.changes), line.run.rows_trained, -line.choosing, len(line.run.changes)),
    )


def misshape(line: Line) -> float:
    """How far a run's summaries of dev are from the references' shape, as `Average` has it."""
    return Average(line.choosing, line.run.repeats, line.run.length_ratio).misshape


def as_record(line: Line, *, chosen: bool) -> dict[str, Any]:
    """A line as the JSON file has it, numbers with 4 decimals."""
    bounds = {name: interval(half(line.run.scores)) for name, half in HALVES.items()}
    record: dict[str, Any] = {
        "changes": line.run.changes,
        "rows_trained": line.run.rows_trained,
        "repeats": line.run.repeats,
        "length_ratio": line.run.length_ratio,
        **{name: [round(number, 4) for number in (of.mean, of.low, of.high)] for name, of in bounds.items()},
    }
    if line.gain:
        between = line.gain.interval
        record["gain"] = [round(number, 4) for number in (between.mean, between.low, between.high)]
        record["p"] = round(line.gain.p, 4)
    return record | {"within_noise_of_best": line.is_as_good, "chosen": chosen}


HALVES = {"choosing_half": choosing, "other_half": telling}
