"""The predictions of a split row by row, with their scores and what the checks found, and the metrics of them all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any, cast

from stages.corpus.dialogue import speakers
from stages.corpus.hangul import hangul_share
from stages.scoring.bootstrap import interval
from stages.scoring.metrics import METRICS, MORPHEME, score_by_all
from stages.scoring.prediction_checks import CHECKS, found
from stages.scoring.rouge import Score, Scorer, Scores, mean
from stages.scoring.shape import length_ratio

LENGTHS = (0, 250, 400, 600)
"""Where the groups of dialogues by length begin, in characters."""


@dataclass(frozen=True)
class ScoredRow:
    """A predicted summary beside what it summarizes, its scores, and what the checks found in it, by check."""

    fname: str
    dialogue: str
    references: Sequence[str]
    summary: str
    topic: str
    scores: Mapping[str, Score]
    """By metric."""
    findings: Mapping[str, Sequence[str]]

    @property
    def morpheme(self) -> Scores:
        """The score by which rows are sorted and grouped."""
        return cast(Scores, self.scores[MORPHEME])


def score_rows(
    fnames: Sequence[str],
    dialogues: Sequence[str],
    references: Sequence[Sequence[str]],
    summaries: Sequence[str],
    topics: Sequence[str],
    morphemes: Scorer,
) -> list[ScoredRow]:
    """Score each summary by all metrics, and check it."""
    columns = zip(
        fnames,
        dialogues,
        references,
        summaries,
        topics,
        score_by_all(summaries, references, morphemes),
        map(found, summaries, dialogues, references),
        strict=True,
    )
    return [ScoredRow(*row) for row in columns]


def measure(rows: Sequence[ScoredRow], baselines: Mapping[str, Sequence[Scores]]) -> dict[str, Any]:
    """The metrics of one split, rounded to 4 decimals; `checks` are percentages of the rows.

    Args:
        rows: at least one.
        baselines: for each baseline its scores of the same rows, at morpheme level.
    """
    summaries, references = [row.summary for row in rows], [row.references for row in rows]
    failed = Counter(name for row in rows for name in row.findings)
    return {
        **{name: with_interval([row.scores[name] for row in rows]) for name in METRICS},
        "baselines": {name: {"final": mean(scores).rounded()["final"]} for name, scores in baselines.items()},
        "empty": sum(not summary.strip() for summary in summaries),
        "length_ratio": round(length_ratio(summaries, references), 4),
        "hangul_share": round(hangul_share(" ".join(summaries)), 4),
        "checks": {name: round(100 * failed[name] / len(rows), 4) for name in CHECKS},
        "by_length": group_metrics(by_length(rows)),
        "by_speakers": group_metrics(by_speakers(rows)),
    }


def headline(measured: Mapping[str, Any]) -> dict[str, Any]:
    """What to compare runs by, of what `measure` found in a split.

    Returns:
        For each level `final` as published and with clipped counts; the percentage of rows that hold the same three
        words twice; and the characters of the summaries for each one of the references.
    """
    return {
        "word": {"final": measured["word"]["final"], "clipped": measured["word_clipped"]["final"]},
        "morpheme": {"final": measured["morpheme"]["final"], "clipped": measured["clipped"]["final"]},
        "repeats": measured["checks"]["repeats"],
        "length_ratio": measured["length_ratio"],
    }


def with_interval(scores: Sequence[Score]) -> dict[str, float]:
    """The mean scores, and where `final` lies with 95% confidence."""
    bounds = interval([score.final for score in scores])
    return {**mean(scores).rounded(), "final_low": round(bounds.low, 4), "final_high": round(bounds.high, 4)}


def by_length(rows: Sequence[ScoredRow]) -> dict[str, list[ScoredRow]]:
    """The rows by the length of their dialogues in characters; groups without rows are left out."""
    names = [f"{low} to {high - 1}" for low, high in pairwise(LENGTHS)]
    return _grouped(rows, [*names, f"{LENGTHS[-1]} or more"], [_length_group(row) for row in rows])


def by_speakers(rows: Sequence[ScoredRow]) -> dict[str, list[ScoredRow]]:
    """The rows by how many speak in their dialogues; groups without rows are left out."""
    return _grouped(rows, ["1", "2", "3 or more"], [min(max(len(speakers(row.dialogue)), 1), 3) - 1 for row in rows])


def by_topic_word(rows: Sequence[ScoredRow], least: int = 3) -> dict[str, list[ScoredRow]]:
    """The rows whose topic holds a word, for each word that `least` topics hold, most rows first.

    Topics themselves are mostly unique.
    """
    groups: dict[str, list[ScoredRow]] = {}
    for row in rows:
        for word in dict.fromkeys(row.topic.split()):
            groups.setdefault(word, []).append(row)
    frequent = {word: group for word, group in groups.items() if len(group) >= least}
    return dict(sorted(frequent.items(), key=lambda item: (-len(item[1]), item[0])))


def group_metrics(groups: Mapping[str, Sequence[ScoredRow]]) -> dict[str, dict[str, float]]:
    """How many rows each group has, and their mean `final` at morpheme level; spaces in names become `_`."""
    return {
        name.replace(" ", "_"): {
            "rows": len(rows),
            "final": round(fmean(row.morpheme.final for row in rows), 4),
        }
        for name, rows in groups.items()
    }


def _length_group(row: ScoredRow) -> int:
    return sum(len(row.dialogue) >= start for start in LENGTHS) - 1


def _grouped(rows: Sequence[ScoredRow], names: Sequence[str], places: Sequence[int]) -> dict[str, list[ScoredRow]]:
    groups: dict[str, list[ScoredRow]] = {name: [] for name in names}
    for row, place in zip(rows, places, strict=True):
        groups[names[place]].append(row)
    return {name: group for name, group in groups.items() if group}
