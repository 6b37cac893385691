"""Dialogue tables are CSV, UTF-8, LF: read with every rule checked, and written so that no string changes."""

from __future__ import annotations

import csv
import hashlib
import logging
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from types import SimpleNamespace
from typing import BinaryIO, Literal

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError

from stages.core.errors import UserError
from stages.core.files import replacing
from stages.corpus.csv_rows import CsvRows, has_text, open_rows, row_name, shown
from stages.corpus.dialogue import MAY_BEGIN_TURN

log = logging.getLogger(__name__)

Split = Literal["train", "dev", "test"]
Row = dict[str, str]
"""A row of a dialogue table, by column."""

AUGMENTED_COLUMNS = ["fname", "dialogue", "summary", "topic", "source"]
"""What a table of augmented rows holds, and the merged table."""

BATCH = 1000
"""Rows that are in memory at once where a table is read or written in batches."""

_NUMBERED_SUMMARY = re.compile(r"summary[1-9]\d*")


@dataclass(frozen=True)
class TableStream:
    """A dialogue table whose header is checked; its rows are read and checked batch by batch."""

    path: Path
    split: Split
    columns: list[str]
    """The columns that are kept, in order."""
    source: CsvRows
    """The rows that are still to be read."""
    fnames: set[bytes] = field(default_factory=set)
    """A digest of each fname read so far: a tenth of what the table's text would need."""

    @property
    def header(self) -> list[str]:
        return self.source.header

    @property
    def mended(self) -> dict[str, int]:
        """What was mended in the rows read so far, by the names of `csv_rows.MENDED`, and how often."""
        return dict(+self.source.mended)

    @property
    def ignored_columns(self) -> list[str]:
        return [name for name in self.header if name not in self.columns]

    def has(self, fname: str) -> bool:
        """Whether one of the rows read so far has this fname."""
        return _digest(fname) in self.fnames

    def batches(self) -> Iterator[pd.DataFrame]:
        """The table in frames of at most BATCH rows, each like a small table that `read_table` gives.

        Raises:
            UserError: a row breaks a rule.
        """
        while rows := dict(islice(self.source.rows, BATCH)):
            yield self._frame(rows).reset_index(drop=True)
        if self.ignored_columns:
            names = ", ".join(shown(name) or "(unnamed)" for name in self.ignored_columns)
            log.info("%s: columns ignored (%d): %s", self.path, len(self.ignored_columns), names)
        self.source.tell()

    def _frame(self, rows: dict[int, list[str]]) -> pd.DataFrame:
        frame = pd.DataFrame(list(rows.values()), columns=self.header, index=list(rows), dtype="str")[self.columns]
        repeated = []
        for digest in map(_digest, frame["fname"]):
            repeated.append(digest in self.fnames)
            self.fnames.add(digest)
        _validate(self.path, frame, self.split, pd.Series(repeated, index=frame.index, dtype=bool))
        return frame


def open_table(path: Path, split: Split, *, allow_empty: bool = False) -> TableStream:
    """Open a dialogue table to read it batch by batch: `read_table` for tables that memory may not hold.

    Raises:
        UserError: as `read_table`; a rule that a row breaks is found when its batch is read.
    """
    source = open_rows(path, missing="put the table there or set data.source to its folder")
    if not source.header:
        raise UserError(f"{path}: empty; a table needs a header and at least one row")
    columns = _columns(path, source.header, split)
    first = list(islice(source.rows, 1))
    if not first and not allow_empty:
        raise UserError(f"{path}: a header without rows; add at least one row")
    return TableStream(path, split, columns, replace(source, rows=chain(first, source.rows)))


def read_table(path: Path, split: Split, *, allow_empty: bool = False) -> pd.DataFrame:
    """Read and check a dialogue table; every value is text as it stands in the file, in Unicode's composed form.

    Columns come in the order fname, dialogue, summary (or summary1, summary2, ...), topic, source; the last
    two only where the file has them. Train needs `summary`; dev needs `summary` or numbered ones; test needs
    neither, and its references may be blank. Other columns are left out, and named in
    `frame.attrs["ignored_columns"]`. `csv_rows` says what else is left out.

    Args:
        allow_empty: accept a header without rows.

    Raises:
        UserError: the table breaks a rule. The message names the file, the row, the column, and what to do.
    """
    stream = open_table(path, split, allow_empty=allow_empty)
    empty = pd.DataFrame(columns=stream.columns, dtype="str")
    frame = pd.concat([empty, *stream.batches()], ignore_index=True)
    frame.attrs["ignored_columns"] = stream.ignored_columns
    return frame


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table of text, whole; `read_table` gives the same strings back, line ends in them included.

    Raises:
        TypeError: a value is not text, such as the NaN that a join leaves.
    """
    with writing_table(path, list(frame.columns)) as writer:
        writer.write(frame)


@dataclass(frozen=True)
class TableWriter:
    """Writes the rows of a table, batch by batch."""

    path: Path
    columns: list[str]
    file: BinaryIO

    def write(self, frame: pd.DataFrame) -> None:
        """Add rows.

        Raises:
            TypeError: a value is not text.
        """
        self.write_encoded(encode_rows(frame[self.columns], self.path))

    def write_encoded(self, lines: Iterable[bytes]) -> None:
        """Add rows as `encode_rows` gives them."""
        self.file.writelines(lines)


@contextmanager
def writing_table(path: Path, columns: list[str]) -> Iterator[TableWriter]:
    """Yield a writer of a table with these columns; the table is at `path` once the block has ended well."""
    with replacing(path) as temporary, temporary.open("wb") as file:
        file.writelines(_encode([columns]))
        yield TableWriter(path, columns, file)


def encode_rows(frame: pd.DataFrame, path: Path) -> list[bytes]:
    """The lines of a table's file, one for each row of `frame`; `path` is for the error.

    Raises:
        TypeError: a value is not text.
    """
    rows = frame.to_numpy(dtype=object).tolist()
    for value in (value for row in rows for value in row):
        if not isinstance(value, str):
            raise TypeError(f"{path}: {value!r} is not text")
    return _encode(rows)


def reference_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that hold reference summaries: `summary`, or `summary1`, `summary2`, ..., or none."""
    return _reference_names(list(frame.columns))


def references(frame: pd.DataFrame) -> list[list[str]]:
    """The references of each row (rows x references), blank ones left out; [] for a row that has none."""
    rows = frame[reference_columns(frame)].to_numpy(dtype=object).tolist()
    return [[reference for reference in row if has_text(reference)] for row in rows]


def _encode(rows: list[list[str]]) -> list[bytes]:
    # Below Python 3.13 a field is quoted for the characters of `lineterminator` only: "\n" would lose a "\r".
    lines: list[str] = []
    csv.writer(SimpleNamespace(write=lines.append), lineterminator="\r\n").writerows(rows)
    return [f"{line[:-2]}\n".encode() for line in lines]


def _digest(fname: str) -> bytes:
    """16 bytes: that two of a billion fnames share one has odds of 1 in 10^20."""
    return hashlib.blake2b(fname.encode(), digest_size=16).digest()


def _columns(path: Path, header: list[str], split: Split) -> list[str]:
    """The columns to keep, in order."""
    for name, count in Counter(header).items():
        if name and count > 1:
            raise UserError(f"{path}: column {shown(name)}: {count} times in the header; keep one")
    reference = ["summary"] if split == "train" else _reference_names(header)
    if reference[:1] == ["summary"] and len(reference) > 1:
        raise UserError(
            f"{path}: columns summary and {reference[1]}: two ways to give references; keep "
            "summary, or summary1, summary2, ..."
        )
    if split == "dev" and not reference:
        reference = ["summary"]
    for name in ["fname", "dialogue", *reference]:
        if name not in header:
            raise UserError(
                f"{path}: column {name}: missing from the header {shown(','.join(header))}; "
                f"add {name}, with commas between columns"
            )
    return ["fname", "dialogue", *reference, *(name for name in ("topic", "source") if name in header)]


def _reference_names(names: list[str]) -> list[str]:
    numbered = sorted(filter(_NUMBERED_SUMMARY.fullmatch, names), key=lambda name: int(name[len("summary") :]))
    return [*(name for name in names if name == "summary"), *numbered]


def _validate(path: Path, frame: pd.DataFrame, split: Split, repeated: pd.Series) -> None:
    """Check the values of a table whose index holds line numbers; `repeated` marks fnames of rows above."""
    checks = {
        "fname": [
            _not_blank("give each row a name of its own"),
            pa.Check(
                lambda names: ~repeated,
                error="a row above has it too; give each row a name of its own",
            ),
        ],
        "dialogue": [
            _not_blank("write the dialogue or delete the row"),
            pa.Check(
                lambda dialogue: bool(MAY_BEGIN_TURN.search(dialogue)),
                element_wise=True,
                error="no speaker tag; begin each turn with #Person1#: or #Person2#:",
            ),
        ],
    }
    if split != "test":
        for name in reference_columns(frame):
            checks[name] = [_not_blank("write the summary or delete the row")]
    schema = pa.DataFrameSchema({name: pa.Column(str, checks.get(name, [])) for name in frame.columns})
    try:
        schema.validate(frame)
    except SchemaError as error:
        line = int(error.failure_cases["index"].min())
        where = row_name(frame.at[line, "fname"], line)
        raise UserError(f"{path}: {where}, column {error.schema.name}: {error.check.error}") from None


def _not_blank(remedy: str) -> pa.Check:
    return pa.Check(has_text, element_wise=True, error=f"empty; {remedy}")
