"""Learns to choose among candidates, from those of training rows by adapters that have not seen them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

import numpy as np

from stages.core import paths
from stages.core.errors import UserError
from stages.core.params import Params
from stages.decoding.learned import FEATURES, Reranker, features
from stages.decoding.rerank import agreement
from stages.scoring.candidates import Candidate, CandidateRow
from stages.scoring.objective import Objective
from stages.scoring.reward import reward, score

RIDGE = 1e-3
"""What holds weights down where features say the same, beside features of variance 1."""


@dataclass(frozen=True)
class Weighed:
    """The candidates of a row with what they are chosen by, and what each is worth."""

    candidates: Sequence[Candidate]
    agreement: Sequence[float]
    rewards: Sequence[float]

    @property
    def texts(self) -> list[str]:
        return [each.text for each in self.candidates]

    @property
    def likelihoods(self) -> list[float]:
        return [each.likelihood for each in self.candidates]

    def chosen_by(self, reranker: Reranker) -> int:
        return reranker.best(self.texts, self.likelihoods, self.agreement)


def fit_reranker(rows: Sequence[CandidateRow], params: Params) -> dict[str, Any]:
    """Weights that predict what a candidate is worth beside the others of its row, and what choosing by them comes to.

    Returns:
        `weights` by feature; `cross_validated`, where the rows of each fold are chosen from by weights of the others;
        and `dev`. Both say what the search's first candidate comes to, the one that agrees most, the learned choice and
        the best there is.

    Raises:
        UserError: there are not two folds with candidates to choose among.
    """
    several = [row for row in rows if len(row.candidates) > 1]
    texts = [[each.text for each in row.candidates] for row in several]
    by_fold: dict[str, list[Weighed]] = {}
    for row, agreed in zip(several, agreement(texts, Objective.of(params.evaluate)), strict=True):
        worth = [reward(each, params.evaluate.objective, params.reward) for each in row.candidates]
        by_fold.setdefault(row.fold, []).append(Weighed(row.candidates, agreed, worth))
    dev = by_fold.pop("", [])
    if len(by_fold) < 2:
        raise UserError(f"{paths.CANDIDATES}: fewer than two folds have rows with candidates; raise candidates.samples")
    unseen: list[tuple[Weighed, int]] = []
    for fold, of in by_fold.items():
        others = Reranker(fit([row for other, each in by_fold.items() if other != fold for row in each]))
        unseen += [(row, row.chosen_by(others)) for row in of]
    weights = fit([row for of in by_fold.values() for row in of])
    report: dict[str, Any] = {"weights": weights, "cross_validated": _compared(unseen, params.evaluate.objective)}
    if dev:
        learned = Reranker(weights)
        report["dev"] = _compared([(row, row.chosen_by(learned)) for row in dev], params.evaluate.objective)
    return report


def fit(rows: Sequence[Weighed]) -> dict[str, float]:
    """Ridge regression of the rewards on the features, both beside their means in the row.

    Each row counts as much, however many candidates it has. What never differs within a row gets the weight 0.
    """
    inputs, outputs = [], []
    for row in rows:
        values = np.array(features(row.texts, row.likelihoods, row.agreement))
        worth = np.array(row.rewards)
        share = np.sqrt(1 / len(worth))
        inputs.append(share * (values - values.mean(axis=0)))
        outputs.append(share * (worth - worth.mean()))
    x, y = np.concatenate(inputs), np.concatenate(outputs)
    scale = np.sqrt((x**2).sum(axis=0) / len(rows))
    x = x / np.where(scale > 0, scale, 1)
    weights = np.linalg.solve(x.T @ x / len(rows) + RIDGE * np.eye(len(FEATURES)), x.T @ y / len(rows))
    found = np.where(scale > 0, weights / np.where(scale > 0, scale, 1), 0)
    return {name: round(float(value), 6) for name, value in zip(FEATURES, found, strict=True)}


def _compared(chosen: Sequence[tuple[Weighed, int]], objective: str) -> dict[str, Any]:
    ways = {
        "search": [row.candidates[0] for row, _ in chosen],
        "mbr": [row.candidates[row.agreement.index(max(row.agreement))] for row, _ in chosen],
        "learned": [row.candidates[place] for row, place in chosen],
        "best": [row.candidates[row.rewards.index(max(row.rewards))] for row, _ in chosen],
    }
    return {"rows": len(chosen), **{name: _means(found, objective) for name, found in ways.items()}}


def _means(candidates: Sequence[Candidate], objective: str) -> Mapping[str, float]:
    return {
        "final": round(fmean(score(each, objective) for each in candidates), 4),
        "length_ratio": round(fmean(each.length_ratio for each in candidates), 4),
        **{
            name: round(100 * fmean(name in each.findings for each in candidates), 4)
            for name in ("repeats", "invented", "swapped_speakers")
        },
    }
