"""Say whether two runs differ, or chance explains it, from their scores of the same dialogues.

    python -m stages.compare main workspace

Each is a Git revision, a DVC experiment, or `workspace`, the predictions as they lie in data/predictions. A revision's
scores, row by row, are in Git (metrics/eval/rows.csv); one that has none is scored by its predictions in DVC's cache,
as the workspace is, against the references in data/checked.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.params import load_params
from stages.core.revisions import WORKSPACE, Revision, open_revision
from stages.corpus.predictions import read_predictions
from stages.corpus.tables import read_table, references
from stages.scoring.bootstrap import paired
from stages.scoring.metrics import compared, score_by_all
from stages.scoring.morphemes import CUTTERS, as_analyzer
from stages.scoring.rouge import Scorer
from stages.scoring.row_scores import RowScore, RowScores, from_csv, other_rows, row_score
from stages.scoring.score_table import SPLITS

Predict = Callable[[Path, Sequence[str]], list[str]]
"""The summaries that a file of predictions has for fnames, in their order."""


def scores_of(name: str, analyzer: str) -> RowScores:
    """The scores of each row of a run.

    Args:
        name: a revision, an experiment or `workspace`.
        analyzer: what cuts texts into morphemes.

    Raises:
        UserError: there is no such revision, or neither scores by this analyzer nor predictions of these dialogues.
    """
    if name == WORKSPACE:
        if not paths.DEV_PREDICTIONS.is_file() and paths.ROW_SCORES.is_file():
            scores, by = from_csv(paths.ROW_SCORES.read_text(encoding="utf-8"))
            if by == analyzer:
                return scores
        return score(read_predictions, analyzer)
    try:
        revision = open_revision(name)
    except LookupError:
        raise UserError(
            f"{name}: no such revision; `git branch`, `git tag` and `dvc exp list` name those there are"
        ) from None
    try:
        scores, by = from_csv(revision.read(paths.ROW_SCORES).decode())
    except FileNotFoundError:  # before rows were kept
        return score(cached_predictions(name, revision, "check it out, run `dvc repro` and come back"), analyzer)
    if by == analyzer:
        return scores
    remedy = f"its scores are by {by}, so set evaluate.morphemes: {by} in params.yaml"
    return score(cached_predictions(name, revision, remedy), analyzer)


def cached_predictions(name: str, revision: Revision, remedy: str) -> Predict:
    """Reads the predictions of a revision; `remedy` is what to do where they are not in DVC's cache."""

    def predict(path: Path, fnames: Sequence[str]) -> list[str]:
        try:
            content = revision.read(path)
        except FileNotFoundError:
            raise UserError(f"{name}: its {path} is not in DVC's cache; {remedy}") from None
        with TemporaryDirectory() as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(content)
            try:
                return read_predictions(copy, fnames)
            except UserError as error:
                raise UserError(f"{name}: {str(error).replace(str(copy), str(path))}") from None

    return predict


def score(predict: Predict, analyzer: str) -> RowScores:
    """Score predictions against the references in data/checked."""
    morphemes = Scorer(as_analyzer(CUTTERS[analyzer]))
    scores: dict[str, dict[str, RowScore]] = {}
    for split in SPLITS:
        table = read_table(paths.CHECKED / f"{split}.csv", split)
        given = references(table)
        if not any(given):
            continue
        predicted = predict(paths.PREDICTIONS / f"{split}.csv", table["fname"].tolist())
        rows = [row for row, refs in enumerate(given) if refs]
        refs = [given[row] for row in rows]
        by_metric = score_by_all([predicted[row] for row in rows], refs, morphemes)
        scores[split] = dict(zip(table["fname"].iloc[rows], map(row_score, refs, by_metric), strict=True))
    return scores


def header(names: Sequence[str]) -> str:
    """The head of the table whose lines `line` writes."""
    first, second = (f"{name:>{_width(names)}}" for name in names)
    return f"{'':16}{first}{second}{'difference':>12}{'95% interval':>18}{'p':>9}"


def line(what: str, first: Sequence[float], second: Sequence[float], names: Sequence[str]) -> str:
    """Two runs' mean scores of the same rows, their difference, and what to think of it."""
    width = _width(names)
    difference = paired(first, second)
    between = f"{difference.interval.low:+.2f} to {difference.interval.high:+.2f}"
    verdict = "real" if difference.is_real else "may be chance"
    return (
        f"{what:16}{fmean(first):>{width}.2f}{fmean(second):>{width}.2f}{difference.interval.mean:>+12.2f}"
        f"{between:>18}{difference.p:>9.4f}  {verdict}"
    )


def compare(first: RowScores, second: RowScores, names: Sequence[str]) -> str:
    """The table of both runs, a line for each split and level.

    Raises:
        UserError: they were scored on different rows.
    """
    lines = [header(names)]
    for split in SPLITS:
        ours, theirs = first.get(split, {}), second.get(split, {})
        if others := other_rows(ours, theirs):
            raise UserError(
                f"{' and '.join(names)}: {len(others)} rows of {split} are other dialogues, or have other references, "
                f"in the one than in the other, first {others[0]}; compare runs of the same tables"
            )
        if not ours:
            lines.append(f"{split:16}no references")
            continue
        kept = [row.finals for row in (*ours.values(), *theirs.values())]
        for name in compared():
            if all(name in finals for finals in kept):  # a metric may be younger than a run
                one, other = ([rows[fname].finals[name] for fname in ours] for rows in (ours, theirs))
                lines.append(line(f"{split} {name}", one, other, names))
    return "\n".join(lines)


def _width(names: Sequence[str]) -> int:
    return max(10, *map(len, names)) + 2


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Say whether two runs differ, or chance explains it.")
    parser.add_argument("revisions", nargs=2, metavar="REV", help="a Git revision, a DVC experiment, or workspace")
    names = parser.parse_args(argv).revisions
    analyzer = load_params().evaluate.morphemes
    first, second = (scores_of(name, analyzer) for name in names)
    print(compare(first, second, names))


if __name__ == "__main__":
    run_stage(main)
