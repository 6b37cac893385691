"""What summaries are scored by: a table from which the scores of rows, the metrics, the tables and the report follow.

Another metric is a function like those below and a line in `METRICS`. What it gives for a row is a `Score`: a frozen
dataclass of numbers from 0 to 100, one of which, or their mean, is `final`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.scoring.morphemes import words
from stages.scoring.rouge import Score, Scorer, clipped

MORPHEME = "morpheme"
"""The metric by which rows are sorted and grouped, and that depends on `evaluate.morphemes`."""

References = Sequence[Sequence[str]]
"""The reference summaries of each row, at least one."""


@dataclass(frozen=True)
class Metric:
    """A way to score summaries.

    Attributes:
        rows: from summaries, their references and the run's scorer of morphemes to the score of each row.
        compared: whether its `final` is kept of each row, to compare two runs by, and stands in a run's last table.
    """

    rows: Callable[[Sequence[str], References, Scorer], Sequence[Score]]
    compared: bool = False


def by_word(summaries: Sequence[str], references: References, morphemes: Scorer) -> Sequence[Score]:
    """ROUGE of words, as the package `rouge` 1.0.1 counts."""
    return Scorer(words).rows(summaries, references)


def by_morpheme(summaries: Sequence[str], references: References, morphemes: Scorer) -> Sequence[Score]:
    """ROUGE of morphemes, as the package `rouge` 1.0.1 counts."""
    return morphemes.rows(summaries, references)


def by_clipped_morpheme(summaries: Sequence[str], references: References, morphemes: Scorer) -> Sequence[Score]:
    """ROUGE of morphemes, as the package `rouge_score` counts."""
    return morphemes.rows(summaries, references, clipped)


def by_clipped_word(summaries: Sequence[str], references: References, morphemes: Scorer) -> Sequence[Score]:
    """ROUGE of words, as the package `rouge_score` counts."""
    return Scorer(words).rows(summaries, references, clipped)


METRICS: dict[str, Metric] = {
    "word": Metric(by_word, compared=True),
    MORPHEME: Metric(by_morpheme, compared=True),
    "clipped": Metric(by_clipped_morpheme, compared=True),
    "word_clipped": Metric(by_clipped_word),
}
"""By the name that the metrics file, tables and the report have."""


def compared() -> dict[str, Metric]:
    """The metrics that two runs are compared by."""
    return {name: metric for name, metric in METRICS.items() if metric.compared}


def score_by_all(summaries: Sequence[str], references: References, morphemes: Scorer) -> list[dict[str, Score]]:
    """For each row its score by each metric."""
    columns = [metric.rows(summaries, references, morphemes) for metric in METRICS.values()]
    return [dict(zip(METRICS, row, strict=True)) for row in zip(*columns, strict=True)]
