from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest

from stages.compare import compare
from stages.pages.evaluation_page import render_report
from stages.scoring.metrics import METRICS, Metric, References, compared, score_by_all
from stages.scoring.rouge import Score, Scorer
from stages.scoring.row_scores import from_csv, row_score, to_csv
from stages.scoring.score_table import summary_table
from stages.scoring.scored_rows import measure, score_rows


@dataclass(frozen=True)
class Exact(Score):
    """Whether a summary is one of its references."""

    exact: float

    @property
    def final(self) -> float:
        return self.exact


def exact(summaries: Sequence[str], references: References, morphemes: Scorer) -> list[Exact]:
    return [Exact(100.0 * (summary in row)) for summary, row in zip(summaries, references, strict=True)]


def test_the_levels_of_rouge() -> None:
    (row,) = score_by_all(["나 나 가"], [["나 가"]], Scorer(lambda texts: [" ".join(text) for text in texts]))
    # Counted once they are the same; clipped, two of three and two are.
    assert {name: round(score.rounded()["rouge1"], 2) for name, score in row.items()} == {
        "word": 100.0,
        "morpheme": 100.0,
        "clipped": 80.0,
        "word_clipped": 80.0,
    }
    assert list(compared()) == ["word", "morpheme", "clipped"]


def test_a_metric_in_the_table_is_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the scores of rows, the metrics with their interval, the last table of a run, the report and a comparison."""
    monkeypatch.setitem(METRICS, "exact", Metric(exact, compared=True))
    dialogue = "#Person1#: 네."
    texts = ["가", "나"]
    rows = score_rows(texts, [dialogue] * 2, [["가"], ["다"]], texts, ["", ""], Scorer(list))
    assert [row.scores["exact"] for row in rows] == [Exact(100.0), Exact(0.0)]
    metrics = measure(rows, {})
    assert metrics["exact"] == {"exact": 50.0, "final": 50.0, "final_low": 0.0, "final_high": 100.0}
    assert summary_table({"dev": metrics}).splitlines()[:2] == [
        "dev             word  morpheme   clipped     exact       R-1       R-2       R-L   repeats    length",
        "model          33.33     33.33     33.33     50.00     50.00      0.00     50.00        0%    x 1.00",
    ]
    page = render_report(
        {"dev": (rows, {})}, {"objective": "balanced", "chosen": {}}, lambda texts: [[] for _ in texts]
    )
    assert "model, exact" in page and "exact</th>" in page
    kept = {"dev": {row.fname: row_score(row.references, row.scores) for row in rows}}
    assert kept["dev"]["가"].finals == {"word": 66.6667, "morpheme": 66.6667, "clipped": 66.6667, "exact": 100.0}
    assert from_csv(to_csv(kept, "kiwi")) == (kept, "kiwi")
    assert [line.split()[:4] for line in compare(kept, kept, ["main", "workspace"]).splitlines()[1:5]] == [
        ["dev", "word", "33.33", "33.33"],
        ["dev", "morpheme", "33.33", "33.33"],
        ["dev", "clipped", "33.33", "33.33"],
        ["dev", "exact", "50.00", "50.00"],
    ]
