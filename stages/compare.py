"""Say whether two runs differ, or chance explains it, from their predictions for the same dialogues.

    python -m stages.compare main workspace

Each is a Git revision, a DVC experiment, or `workspace`, the predictions as they lie in data/predictions. Both are
scored against the references in data/checked, dialogue by dialogue.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.scm import SCMError
from dvc_data.index import DataIndexDirError

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.params import load_params
from stages.corpus.predictions import read_predictions
from stages.corpus.tables import read_table, references
from stages.scoring.bootstrap import paired
from stages.scoring.morphemes import CUTTERS, analyser, words
from stages.scoring.rouge import Scorer
from stages.scoring.score_table import SPLITS

WORKSPACE = "workspace"


def predictions_of(revision: str, split: str, fnames: Sequence[str]) -> list[str]:
    """The summaries that a revision predicted for `fnames`, in their order.

    Raises:
        UserError: there is no such revision, its predictions are not in DVC's cache, or are of other dialogues.
    """
    path = paths.PREDICTIONS / f"{split}.csv"
    if revision == WORKSPACE:
        return read_predictions(path, fnames)
    try:
        content = DVCFileSystem(rev=revision).read_bytes(path.as_posix())
    except SCMError:
        raise UserError(
            f"{revision}: no such revision; `git branch`, `git tag` and `dvc exp list` name those there are"
        ) from None
    except (DvcException, DataIndexDirError, OSError):
        raise UserError(
            f"{revision}: its {path} is not in DVC's cache; check it out, run `dvc repro` and come back"
        ) from None
    with TemporaryDirectory() as folder:
        copy = Path(folder) / path.name
        copy.write_bytes(content)
        try:
            return read_predictions(copy, fnames)
        except UserError as error:
            raise UserError(f"{revision}: {str(error).replace(str(copy), str(path))}") from None


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


def _width(names: Sequence[str]) -> int:
    return max(10, *map(len, names)) + 2


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Say whether two runs differ, or chance explains it.")
    parser.add_argument("revisions", nargs=2, metavar="REV", help="a Git revision, a DVC experiment, or workspace")
    names = parser.parse_args(argv).revisions
    params = load_params()
    scorers = {"word": Scorer(words), "morpheme": Scorer(analyser(CUTTERS[params.evaluate.morphemes]))}
    lines = [header(names)]
    for split in SPLITS:
        dialogues = read_table(paths.CHECKED / f"{split}.csv", split)
        refs = references(dialogues)
        rows = [row for row, given in enumerate(refs) if given]
        if not rows:
            lines.append(f"{split:16}no references")
            continue
        summaries = [predictions_of(name, split, dialogues["fname"].tolist()) for name in names]
        for level, scorer in scorers.items():
            first, second = (
                [score.final for score in scorer.rows([run[row] for row in rows], [refs[row] for row in rows])]
                for run in summaries
            )
            lines.append(line(f"{split} {level}", first, second, names))
    print("\n".join(lines))


if __name__ == "__main__":
    run_stage(main)
