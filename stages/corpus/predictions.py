"""Predictions, `fname,summary`: lined up with the table that they summarize, and written as a submission."""

from __future__ import annotations

import logging
import unicodedata
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from stages.core.errors import UserError
from stages.corpus.csv_rows import open_rows
from stages.corpus.tables import write_table

logger = logging.getLogger(__name__)


def read_predictions(path: Path, fnames: Iterable[str]) -> list[str]:
    """Read the summaries predicted for `fnames`, in their order; one that is empty is "".

    Raises:
        UserError: there is no such file, it lacks a column, or its fnames differ from `fnames`.
    """
    table = open_rows(path, missing="run `dvc repro` to predict")
    for column in ("fname", "summary"):
        if column not in table.header:
            raise UserError(f"{path}: no column {column}; predictions have the columns fname and summary")
    predictions = pd.DataFrame([fields for _, fields in table.rows], columns=table.header, dtype="str")
    table.tell()
    summaries: list[str] = _in_order(predictions, fnames, path)["summary"].tolist()
    return summaries


def write_submission(predictions: pd.DataFrame, fnames: Iterable[str], path: Path, index: bool) -> None:
    """Write a row for each fname of the test table, in its order, as UTF-8 with LF, whole.

    Args:
        predictions: columns fname and summary, rows in any order.
        fnames: the test table's.
        path: the CSV to write.
        index: begin rows with an unnamed 0-based index, as the competition's published sample does; without
            it the header is `fname,summary`, as the organisers' baseline writes it.

    Raises:
        UserError: a summary is missing, or the predictions' fnames differ from `fnames`. Nothing is written.
    """
    rows = _in_order(predictions, fnames, path)
    _refuse(path, "no summary", rows["fname"][rows["summary"].isna()].tolist())
    empty = rows["fname"][rows["summary"].str.strip() == ""].tolist()
    if empty:
        logger.warning("%s: empty summary: %s (rows: %d)", path, empty[0], len(empty))
    if index:
        rows.insert(0, "", [str(i) for i in range(len(rows))])
    write_table(rows, path)


def _in_order(predictions: pd.DataFrame, fnames: Iterable[str], path: Path) -> pd.DataFrame:
    """The predictions as columns fname and summary, a row for each of `fnames`."""
    expected, given = (
        [unicodedata.normalize("NFC", fname) for fname in names] for names in (fnames, predictions["fname"])
    )
    _refuse(path, "predicted twice", [fname for fname, n in Counter(given).items() if n > 1])
    _refuse(path, "not predicted", sorted(set(expected) - set(given)))
    _refuse(path, "predicted but not in the table", sorted(set(given) - set(expected)))
    return predictions.assign(fname=given).set_index("fname").loc[expected, ["summary"]].reset_index()


def _refuse(path: Path, problem: str, fnames: list[str]) -> None:
    if fnames:
        rows = f"{fnames[0]} (rows: {len(fnames)})"
        raise UserError(f"{path}: {problem}: {rows}; run `dvc repro` to predict again")
