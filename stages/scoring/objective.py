"""What is optimised where something is chosen by its score: decoding settings, and one of several candidates.

`published` ROUGE counts n-grams as sets, so a summary that says things twice loses little by it and gains what it hits
on the way. `clipped` ROUGE counts each n-gram as often as both texts hold it. `balanced` is the mean of the two.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import fsum

import numpy as np

from stages.core.params import Evaluate
from stages.scoring.morphemes import CUTTERS, Analyzer, as_analyzer, kiwi_morphemes
from stages.scoring.rouge import Pair, Scorer, Scores, Text, clipped, mean, published

OBJECTIVES: dict[str, dict[str, Pair]] = {
    "balanced": {"morpheme": published, "clipped": clipped},
    "published": {"morpheme": published},
}
"""What `evaluate.objective` chooses from: the mean of these, by the names of `METRICS` under which rows have them."""


class Objective:
    """Scores summaries at morpheme level, 0 to 100, by what is optimised; a text is analysed once."""

    def __init__(self, name: str, analyse: Analyzer = kiwi_morphemes) -> None:
        self._parts = tuple(OBJECTIVES[name].values())
        self._scorer = Scorer(analyse)

    @classmethod
    def of(cls, evaluate: Evaluate) -> Objective:
        """The objective that params.yaml names, by its analyzer of morphemes."""
        return cls(evaluate.objective, as_analyzer(CUTTERS[evaluate.morphemes]))

    def _pair(self, hypothesis: Text, reference: Text) -> Scores:
        return mean([part(hypothesis, reference) for part in self._parts])

    def rows(self, hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> list[float]:
        """The score of each row: the mean over its references.

        Raises:
            ValueError: a row without a reference, or not as many rows of references as hypotheses.
        """
        return [row.final for row in self._scorer.rows(hypotheses, references, self._pair)]

    def analyse(self, texts: Sequence[str]) -> None:
        """Analyse texts that are to be scored, all at once, which is faster than a few at a time."""
        self._scorer.texts(texts)

    def utilities(self, candidates: Sequence[str]) -> list[float]:
        """How well each candidate summary of one dialogue agrees with the others: its mean score against them.

        What minimum-Bayes-risk decoding ranks by. A candidate that occurs twice supports its twin; one that stands
        alone has 0.
        """
        if len(candidates) < 2:
            return [0.0] * len(candidates)
        from stages.scoring.pairwise import finals  # compiled code, which takes a second to import

        times = Counter(candidates)
        texts = self._scorer.texts(list(times))
        matrix = np.mean([finals(texts, part) for part in self._parts], axis=0)
        totals = [fsum(row) for row in matrix * list(times.values())]
        others = len(candidates) - 1
        by_text = dict(zip(times, (np.array(totals) - np.diag(matrix)) / others, strict=True))
        return [float(by_text[candidate]) for candidate in candidates]
