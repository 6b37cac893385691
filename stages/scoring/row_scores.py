"""The score of each row, a few bytes each, which Git keeps with the metrics: what two runs are compared by."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.scoring.metrics import MORPHEME, compared
from stages.scoring.morphemes import CUTTERS
from stages.scoring.rouge import Score


@dataclass(frozen=True)
class RowScore:
    """The `final` scores of a row, rounded to 4 decimals, and a digest of what it is scored against."""

    references: str
    finals: Mapping[str, float]
    """By the metrics that runs are compared by."""


RowScores = Mapping[str, Mapping[str, RowScore]]
"""By split, then by fname; a split without references is left out."""


def row_score(references: Sequence[str], scores: Mapping[str, Score]) -> RowScore:
    """What is kept of a row, from its scores by metric."""
    digest = hashlib.sha256(json.dumps(list(references)).encode()).hexdigest()
    return RowScore(digest[:12], {name: round(scores[name].final, 4) for name in compared()})


def to_csv(scores: RowScores, analyzer: str) -> str:
    """A table `split,fname,references` and a column for each metric, that of morphemes under their analyzer's name."""
    metrics = list(compared())
    file = io.StringIO()
    # Only so is a name with a line end of its own in quotation marks.
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    columns = [analyzer if name == MORPHEME else name for name in metrics]
    writer.writerow(["split", "fname", "references", *columns])
    for split, rows in scores.items():
        writer.writerows(
            [split, fname, row.references, *(row.finals[name] for name in metrics)] for fname, row in rows.items()
        )
    return file.getvalue()


def from_csv(text: str) -> tuple[RowScores, str]:
    """What `to_csv` wrote, then by the metrics of that time: the scores, and the analyzer's name."""
    (_, _, _, *columns), *lines = csv.reader(io.StringIO(text, newline=""))
    analyzer = next(column for column in columns if column in CUTTERS)
    metrics = [MORPHEME if column == analyzer else column for column in columns]
    scores: dict[str, dict[str, RowScore]] = {}
    for split, fname, references, *finals in lines:
        row = RowScore(references, dict(zip(metrics, map(float, finals), strict=True)))
        scores.setdefault(split, {})[fname] = row
    return scores, analyzer


def other_rows(first: Mapping[str, RowScore], second: Mapping[str, RowScore]) -> list[str]:
    """The fnames that only one of two runs has, or that were scored against other references."""
    return [
        fname
        for fname in dict.fromkeys([*first, *second])
        if fname not in first or fname not in second or first[fname].references != second[fname].references
    ]
