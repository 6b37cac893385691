"""Candidate summaries with all that says what they are worth: scored once, and read by whatever learns from them.

data/candidates.jsonl has a line for each dialogue. What is optimised stands outside of it, in `stages.scoring.reward`,
so that another objective needs no new candidates.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import accumulate, pairwise
from pathlib import Path
from statistics import fmean
from typing import Any

from stages.core.errors import UserError
from stages.core.files import replacing
from stages.core.params import Reward
from stages.scoring.prediction_checks import found
from stages.scoring.rouge import Pair, Scorer, clipped, published
from stages.scoring.shape import length_ratio

PAIRS: dict[str, Pair] = {"morpheme": published, "clipped": clipped}
"""What candidates are scored by: all that objectives are made of, by the names that these have for it."""


@dataclass(frozen=True)
class Written:
    """A candidate as it was written, after postprocessing.

    Attributes:
        likelihood: mean log probability of its tokens under the adapter that wrote it, in nats.
        sampled: drawn at random, not found by a search.
    """

    text: str
    likelihood: float
    sampled: bool


@dataclass(frozen=True)
class Candidate(Written):
    """A candidate beside the references.

    Attributes:
        scores: `final`, 0 to 100, by the names of `PAIRS`.
        length_ratio: its characters for each one of the references.
        findings: the checks that found something, by their names in `prediction_checks`.
    """

    scores: dict[str, float]
    length_ratio: float
    findings: list[str]


@dataclass(frozen=True)
class CandidateRow:
    """The candidates of a dialogue: what the search found, best first, and then the samples.

    Attributes:
        fold: that of a training row, whose adapter wrote them; empty of dev, which models/adapter wrote.
    """

    split: str
    fname: str
    fold: str
    candidates: list[Candidate]


def score_candidates(
    written: Sequence[Sequence[Written]],
    dialogues: Sequence[str],
    references: Sequence[Sequence[str]],
    morphemes: Scorer,
) -> list[list[Candidate]]:
    """Score and check the candidates of each dialogue against its references."""
    rows = [row for row, of in enumerate(written) for _ in of]
    texts = [candidate.text for of in written for candidate in of]
    refs = [references[row] for row in rows]
    columns = {name: morphemes.rows(texts, refs, pair) for name, pair in PAIRS.items()}
    flat = [
        Candidate(
            **asdict(candidate),
            scores={name: round(column[number].final, 4) for name, column in columns.items()},
            length_ratio=round(length_ratio([candidate.text], [refs[number]]), 4),
            findings=list(found(candidate.text, dialogues[rows[number]], refs[number])),
        )
        for number, candidate in enumerate(candidate for of in written for candidate in of)
    ]
    return [flat[start:end] for start, end in pairwise(accumulate(map(len, written), initial=0))]


def summarized(rows: Sequence[CandidateRow]) -> dict[str, Any]:
    """For each split, the mean scores of the search's first candidates, of the samples, and of the best samples.

    The best one is the one with the highest mean of all `PAIRS`.
    """
    report: dict[str, Any] = {}
    for split in dict.fromkeys(row.split for row in rows):
        of = [row.candidates for row in rows if row.split == split]
        searched = [[candidate for candidate in each if not candidate.sampled] for each in of]
        samples = [[candidate for candidate in each if candidate.sampled] for each in of]
        report[split] = {
            "rows": len(of),
            "candidates": sum(map(len, of)),
            "search": _means([each[0] for each in searched if each]),
            "sampled": _means([candidate for each in samples for candidate in each]),
            "best_sample": _means([max(each, key=lambda one: fmean(one.scores.values())) for each in samples if each]),
        }
    return report


def _means(candidates: Sequence[Candidate]) -> dict[str, float]:
    if not candidates:
        return {}
    return {
        **{name: round(fmean(each.scores[name] for each in candidates), 4) for name in PAIRS},
        "length_ratio": round(fmean(each.length_ratio for each in candidates), 4),
        **{
            name: round(100 * fmean(name in each.findings for each in candidates), 4)
            for name in Reward.model_fields
            if name != "length"
        },
    }


def write_candidates(rows: Sequence[CandidateRow], path: Path) -> None:
    """Write one row a line, whole."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json.dumps(asdict(row), ensure_ascii=False) + "\n" for row in rows)


def read_candidates(path: Path) -> list[CandidateRow]:
    """Read what `write_candidates` wrote.

    Raises:
        UserError: there are none.
    """
    rows = list(_rows(path)) if path.is_file() else []
    if not rows:
        raise UserError(f"{path}: holds no candidates; set candidates.samples and run `dvc repro candidates`")
    return rows


def _rows(path: Path) -> Iterator[CandidateRow]:
    with path.open(encoding="utf-8") as file:
        for line in file:
            row = json.loads(line)
            yield CandidateRow(**{**row, "candidates": [Candidate(**each) for each in row["candidates"]]})
