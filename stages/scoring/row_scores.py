"""The score of each row, a few bytes each, which Git keeps with the metrics: what two runs are compared by."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from stages.scoring.rouge import Scores


@dataclass(frozen=True)
class RowScore:
    """The `final` scores of a row at both levels, rounded to 4 decimals, and a digest of what it is scored against."""

    references: str
    word: float
    morpheme: float


RowScores = Mapping[str, Mapping[str, RowScore]]
"""By split, then by fname; a split without references is left out."""


def row_score(references: Sequence[str], word: Scores, morpheme: Scores) -> RowScore:
    """What is kept of a row."""
    digest = hashlib.sha256(json.dumps(list(references)).encode()).hexdigest()
    return RowScore(digest[:12], round(word.final, 4), round(morpheme.final, 4))


def to_csv(scores: RowScores, analyzer: str) -> str:
    """A table `split,fname,references,word` and the scores of morphemes under their analyzer's name."""
    file = io.StringIO()
    # Only so is a name with a line end of its own in quotation marks.
    writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_NONNUMERIC)
    writer.writerow(["split", "fname", "references", "word", analyzer])
    for split, rows in scores.items():
        writer.writerows([split, fname, row.references, row.word, row.morpheme] for fname, row in rows.items())
    return file.getvalue()


def from_csv(text: str) -> tuple[RowScores, str]:
    """What `to_csv` wrote: the scores, and the analyzer's name."""
    (*_, analyzer), *lines = csv.reader(io.StringIO(text, newline=""))
    scores: dict[str, dict[str, RowScore]] = {}
    for split, fname, references, word, morpheme in lines:
        scores.setdefault(split, {})[fname] = RowScore(references, float(word), float(morpheme))
    return scores, analyzer


def other_rows(first: Mapping[str, RowScore], second: Mapping[str, RowScore]) -> list[str]:
    """The fnames that only one of two runs has, or that were scored against other references."""
    return [
        fname
        for fname in dict.fromkeys([*first, *second])
        if fname not in first or fname not in second or first[fname].references != second[fname].references
    ]
