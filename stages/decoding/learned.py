"""Chooses among candidates by weights that were learned on candidates of training rows, see `stages.retraining`."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from stages.core import paths
from stages.core.errors import UserError
from stages.scoring.shape import repeated_words

FEATURES = ("likelihood", "agreement", "length", "odd_length", "repeats")
"""What a candidate is weighed by, beside the other candidates of its dialogue."""


def features(texts: Sequence[str], likelihoods: Sequence[float], agreement: Sequence[float]) -> list[list[float]]:
    """The numbers of each candidate of a dialogue, by the names of `FEATURES`.

    Args:
        texts: the candidates.
        likelihoods: the mean log probability of each one's tokens.
        agreement: the mean score of each against all others, 0 to 100, as minimum Bayes risk ranks them.

    Returns:
        Likelihood and agreement as they are; the logarithm of the length by the median candidate's, and how far that is
        from 0; and 1 where the candidate says the same three words twice.
    """
    middle = max(median(map(len, texts)), 1)
    lengths = [math.log(max(len(text), 1) / middle) for text in texts]
    return [
        [likelihood, agreed, length, abs(length), float(bool(repeated_words(text)))]
        for text, likelihood, agreed, length in zip(texts, likelihoods, agreement, lengths, strict=True)
    ]


@dataclass(frozen=True)
class Reranker:
    """Weights by the names of `FEATURES`."""

    weights: Mapping[str, float]

    @classmethod
    def of(cls, decoding: Mapping[str, Any]) -> Reranker:
        """The one that `tune_decoding` fitted.

        Args:
            decoding: the contents of metrics/eval/decoding.json.

        Raises:
            UserError: it fitted none.
        """
        if "reranker" not in decoding:
            raise UserError(f"{paths.DECODING}: holds no reranker; run `dvc repro tune_decoding`")
        return cls(decoding["reranker"]["weights"])

    def best(self, texts: Sequence[str], likelihoods: Sequence[float], agreement: Sequence[float]) -> int:
        """The position of the best of a dialogue's candidates, the first of equals; empty ones come after all others.

        Arguments are those of `features`.
        """
        weights = [self.weights[name] for name in FEATURES]
        scores = [
            (bool(text), sum(weight * value for weight, value in zip(weights, values, strict=True)))
            for text, values in zip(texts, features(texts, likelihoods, agreement), strict=True)
        ]
        return scores.index(max(scores))
