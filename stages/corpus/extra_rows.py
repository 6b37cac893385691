"""Rows of further training tables (`data.extra`): all in one table, under names that tell which table each is from.

A row `train_7` of data/raw/english.csv is the row `english:train_7` of the source `extra:english`: another translation
may have the fnames of the training table, and nobody takes the one for the other.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from stages.corpus.tables import AUGMENTED_COLUMNS

TABLE = "extra"
"""The name, without .csv, of the table that holds them all."""
_PREFIX = f"{TABLE}:"
_DIALOGSUM = re.compile(r"((?:train|dev|test)_\d+)_\d+")


def source_of(path: Path) -> str:
    """The source of a table's rows, after the name of its file.

    >>> source_of(Path("raw/english.csv"))
    'extra:english'
    """
    return _PREFIX + path.stem


def is_extra(table: str) -> bool:
    """Whether that is the name of the table of them all, or the source of some of them."""
    return table.partition(":")[0] == TABLE


def where_to_mend(table: str) -> str:
    """Where a user finds the rows of a table to mend them."""
    return "its table of data.extra" if is_extra(table) else "data.source's table"


def labelled(rows: pd.DataFrame, source: str) -> pd.DataFrame:
    """Rows as the table of them all has them: with their source, and their fnames made unique by its name."""
    table = source.removeprefix(_PREFIX)
    return rows.assign(fname=[f"{table}:{fname}" for fname in rows["fname"]], source=source).reindex(
        columns=AUGMENTED_COLUMNS, fill_value=""
    )


def dialogue_id(fname: str, source: str = "") -> str:
    """What tells a dialogue in whatever language: the fname that it had in its own table.

    DialogSum's test rows are often handed on with one row for each reference, as `test_12_1` to `test_12_3`.

    >>> dialogue_id("english:train_7", "extra:english"), dialogue_id("english:test_12_3", "extra:english")
    ('train_7', 'test_12')
    """
    own = fname.removeprefix(f"{source.removeprefix(_PREFIX)}:") if source else fname
    found = _DIALOGSUM.fullmatch(own)
    return found[1] if found else own
