"""Chooses decoding settings by what they scored, and where chance may have decided, by the shape of their summaries."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import TypeVar

S = TypeVar("S")


@dataclass(frozen=True)
class Outcome:
    """What some settings came to on one dialogue.

    Attributes:
        score: by the objective, 0 to 100.
        repeats: whether the summary holds three words in a row twice.
        length: of the summary, in characters.
        reference_length: mean of the references, in characters.
    """

    score: float
    repeats: bool
    length: int
    reference_length: float


@dataclass(frozen=True)
class Average:
    """Outcomes of some settings together: mean score, percent of rows with repeats, characters for each reference's."""

    score: float
    repeats: float
    length_ratio: float

    @classmethod
    def of(cls, outcomes: Sequence[Outcome]) -> Average:
        return cls(
            fmean(outcome.score for outcome in outcomes),
            100 * fmean(outcome.repeats for outcome in outcomes),
            sum(outcome.length for outcome in outcomes) / sum(outcome.reference_length for outcome in outcomes),
        )

    @property
    def misshape(self) -> float:
        """How far from the references' shape: the share with repeats, plus how far the length is off, as a share.

        >>> Average(30, 5, 1.0).misshape, round(Average(30, 0, 0.8).misshape, 2)
        (0.05, 0.22)
        """
        return self.repeats / 100 + abs(math.log(max(self.length_ratio, 1e-3)))

    def rounded(self) -> dict[str, float]:
        """The numbers by the names that metrics/eval/decoding.json has, with 4 decimals."""
        numbers = {"final": self.score, "repeats": self.repeats, "length_ratio": self.length_ratio}
        return {name: round(number, 4) for name, number in numbers.items()}

    def __str__(self) -> str:
        return f"{self.score:.2f}, {self.repeats:.0f}% with repeats, length x {self.length_ratio:.2f}"


def within_noise(best: Sequence[float], other: Sequence[float]) -> bool:
    """Whether what `best` scores above `other` on the same dialogues is at most one standard error of that difference.

    On a single dialogue nothing tells chance from merit, and it is not.
    """
    differences = [a - b for a, b in zip(best, other, strict=True)]
    if len(differences) < 2:
        return fmean(differences) <= 0
    return fmean(differences) <= stdev(differences) / math.sqrt(len(differences))


def best(tried: dict[S, list[Outcome]]) -> S:
    """The best of the settings that were tried on the most dialogues.

    Of those within noise of the highest score, it is the one whose summaries repeat least and are nearest to the
    references' length; of equals, the one with the higher score, then the one named first.
    """
    most = max(map(len, tried.values()))
    complete = {setting: outcomes for setting, outcomes in tried.items() if len(outcomes) == most}
    averages = {setting: Average.of(outcomes) for setting, outcomes in complete.items()}
    highest = max(complete, key=lambda setting: averages[setting].score)
    scores = {setting: [outcome.score for outcome in outcomes] for setting, outcomes in complete.items()}
    alike = [setting for setting in complete if within_noise(scores[highest], scores[setting])]
    return min(alike, key=lambda setting: (averages[setting].misshape, -averages[setting].score))
