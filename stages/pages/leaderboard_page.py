"""The page of all runs: what differs between their parameters, their scores, their losses, and which are as good as
the best."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from stages.pages.loss_chart import AXES, Losses, charts
from stages.pages.phrase import Phrase, say
from stages.pages.rendering import render
from stages.scoring.bootstrap import Difference, Interval, paired
from stages.scoring.metrics import MORPHEME
from stages.scoring.row_scores import RowScore, other_rows
from stages.scoring.score_table import SPLITS

KINDS = {
    "workspace": say("workspace", "작업 폴더"),
    "branch": say("branch", "브랜치"),
    "tag": say("tag", "태그"),
    "commit": say("commit", "커밋"),
    "experiment": say("experiment", "실험"),
}
STATES = {
    "queued": say("queued", "대기 중"),
    "running": say("running", "실행 중"),
    "failed": say("failed", "실패"),
    "unreadable": say("cannot be read", "읽을 수 없음"),
}
"""What keeps a run from having scores; another has ended."""
SCORES = {
    MORPHEME: say("ROUGE", "ROUGE"),
    "clipped": say("clipped", "중복 제한"),
    "word": say("by word", "어절 단위"),
}
"""The metrics that are shown of each split, the one that runs are ranked by first."""


@dataclass(frozen=True)
class Run:
    """A run as its revision has it; what the revision has not is None or empty."""

    name: str
    kind: str
    """A key of `KINDS`."""
    state: str | None = None
    """A key of `STATES`."""
    error: str = ""
    """Why it cannot be read."""
    commit: str = ""
    date: str = ""
    """Of the commit, in UTC."""
    params: Mapping[str, Any] = field(default_factory=dict)
    """By dotted name."""
    scores: Mapping[str, Any] = field(default_factory=dict)
    """metrics/eval/scores.json; without intervals where there is only the headline, metrics/eval/metrics.json."""
    analyzer: str = ""
    """What cut texts into morphemes."""
    rows: Mapping[str, RowScore] = field(default_factory=dict)
    """The scores of the dialogues of dev, by fname."""
    losses: Losses = field(default_factory=Losses)
    eval_loss: float | None = None
    """The least on dev."""
    seconds: float | None = None
    """What the steps of the training took."""
    machine: str = ""

    def score(self, split: str, metric: str) -> Interval | None:
        """A mean score with its interval."""
        found = self.scores.get(split, {}).get(metric, {})
        if "final" not in found:
            return None
        return Interval(found["final"], *(found.get(end, found["final"]) for end in ("final_low", "final_high")))

    @property
    def headline(self) -> float | None:
        """What runs are ranked by."""
        found = self.score("dev", MORPHEME)
        return found.mean if found else None


@dataclass(frozen=True)
class Line:
    """A run in the table."""

    run: Run
    is_best: bool
    difference: Difference | Phrase | None
    """From the best run, or why there is none; None where there is nothing to compare."""
    params: Sequence[str]
    """Those that differ between runs; one that the run has not is empty."""


def render_leaderboard(runs: Sequence[Run], analyzer: str) -> str:
    """The page: the best run, those that were tested against it, and the others, each by its score.

    Args:
        runs: the first one with scores of dialogues says which dialogues the best run is sought for.
        analyzer: what cuts texts into morphemes, by `evaluate.morphemes`.
    """
    best = best_run(runs, analyzer)
    params = differing(runs)
    lines = sorted((line_of(run, best, analyzer, params) for run in runs), key=_place)
    drawn = charts([line.run.losses for line in lines], best.losses if best else None)
    return render(
        "leaderboard.html",
        lines=lines,
        best=best,
        params=params,
        splits=SPLITS,
        metrics=SCORES,
        kinds=KINDS,
        states=STATES,
        charts=[(line.run, chart) for line, chart in zip(lines, drawn, strict=True) if line.run.state is None],
        axes=AXES,
        clock_time=clock_time,
    )


def line_of(run: Run, best: Run | None, analyzer: str, params: Sequence[str]) -> Line:
    shown = [_shown(run.params.get(name)) for name in params]
    return Line(run, run is best, difference(best, run, analyzer), shown)


def best_run(runs: Sequence[Run], analyzer: str) -> Run | None:
    """The run with the highest score of the dialogues of dev that the first run with scores has."""
    able = [run for run in runs if run.rows and run.analyzer == analyzer and run.headline is not None]
    same = [run for run in able if not other_rows(able[0].rows, run.rows)]
    return min(same, key=_rank, default=None)


def difference(best: Run | None, run: Run, analyzer: str) -> Difference | Phrase | None:
    """The paired test of a run against the best one, or what there is instead."""
    if best is None or run is best or run.headline is None:
        return None
    if not run.rows:
        return say("no scores of single dialogues", "대화별 점수 없음")
    if run.analyzer != analyzer:
        return say("morphemes by {analyzer}", "{analyzer}로 나눈 형태소", analyzer=run.analyzer)
    if others := other_rows(best.rows, run.rows):
        return say("other dialogues or references: {n}", "다른 대화나 참조: {n}개", n=len(others))
    scores = ([of.rows[fname].finals[MORPHEME] for fname in best.rows] for of in (best, run))
    return paired(*scores)


def differing(runs: Sequence[Run]) -> list[str]:
    """The parameters that have another value in one run than in another; one that a run has not tells nothing."""
    values: dict[str, set[str]] = {}
    for run in runs:
        for name, value in run.params.items():
            values.setdefault(name, set()).add(_shown(value))
    return [name for name, different in values.items() if len(different) > 1]


def clock_time(seconds: float) -> str:
    """Hours, minutes and seconds: `1:02:03`."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _rank(run: Run) -> tuple[float, str]:
    return (float("inf") if run.headline is None else -run.headline, run.name)


def _place(line: Line) -> tuple[bool, bool, float, str]:
    return (not line.is_best, not isinstance(line.difference, Difference), *_rank(line.run))


def _shown(value: Any) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False)
