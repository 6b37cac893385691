"""What a candidate summary is worth: what is optimised, less what would game it."""

from __future__ import annotations

import math
from statistics import fmean

from stages.core.params import Reward
from stages.scoring.candidates import Candidate
from stages.scoring.objective import OBJECTIVES


def score(candidate: Candidate, objective: str) -> float:
    """By `evaluate.objective`: 0 to 100."""
    return fmean(candidate.scores[name] for name in OBJECTIVES[objective])


def reward(candidate: Candidate, objective: str, points: Reward) -> float:
    """The score, less the points for what ROUGE does not see."""
    off: float = sum(points.model_dump(include=set(candidate.findings) - {"length"}).values())
    return score(candidate, objective) - off - points.length * abs(math.log(max(candidate.length_ratio, 1e-3)))
