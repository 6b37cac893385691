"""Chooses among candidate summaries of one dialogue: the one most like all others, or the most Korean one."""

from __future__ import annotations

from collections.abc import Sequence

from stages.corpus.hangul import hangul_share
from stages.scoring.objective import Objective


def most_agreed(candidates: Sequence[str], objective: Objective) -> int:
    """The position of the candidate with the highest expected score against the others, the first of equals.

    Minimum Bayes risk decoding: what the candidates agree on is what a reference most likely says. A candidate that
    comes up several times counts as often.
    """
    agreement = objective.utilities(candidates)
    return agreement.index(max(agreement))


def most_korean(candidates: Sequence[str], least: float) -> int:
    """The position of the first candidate with at least that share of Hangul, or else of the one with the most."""
    shares = [hangul_share(candidate) for candidate in candidates]
    return next((i for i, share in enumerate(shares) if share >= least), shares.index(max(shares)))
