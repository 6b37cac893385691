"""Dialogue tables are CSV, UTF-8, LF: read with every rule checked, and written so that no string changes."""

from __future__ import annotations

import csv
import io
import logging
import re
from collections import Counter
from pathlib import Path
from typing import Literal

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaError

from stages.common.errors import UserError
from stages.common.files import write_text

log = logging.getLogger(__name__)

Split = Literal["train", "dev", "test"]

AUGMENTED_COLUMNS = ["fname", "dialogue", "summary", "topic", "source"]
"""What a table of augmented rows holds, and the merged table."""

# Also the forms that cleaning mends: `#사람1#:`, `Person1:` and a full-width colon.
_SPEAKER = re.compile(r"(?:Person|사람)\s*\d+\s*#?\s*[:：]")
_NUMBERED_SUMMARY = re.compile(r"summary[1-9]\d*")


def read_table(path: Path, split: Split, *, allow_empty: bool = False) -> pd.DataFrame:
    """Read and check a dialogue table; every value is text, exactly as it stands in the file.

    Columns come in the order fname, dialogue, summary (or summary1, summary2, ...), topic, source; the last
    two only where the file has them. Train needs `summary`; dev needs `summary` or numbered ones; test needs
    neither, and its references may be blank. Other columns are left out, and named in
    `frame.attrs["ignored_columns"]`. Blank lines are skipped.

    Args:
        allow_empty: accept a header without rows.

    Raises:
        UserError: the table breaks a rule. The message names the file, the row, the column, and what to do.
    """
    header, rows = _parse(path, _read_text(path))
    columns = _columns(path, header, split)
    for line, fields in rows.items():
        if len(fields) != len(header):
            fname = dict(zip(header, fields, strict=False)).get("fname", "")
            raise UserError(
                f"{path}: {_row(fname, line)}: {len(fields)} fields where the header has "
                f"{len(header)}; put fields that hold commas or newlines in quotation marks"
            )
    if not rows and not allow_empty:
        raise UserError(f"{path}: a header without rows; add at least one row")

    frame = pd.DataFrame(list(rows.values()), columns=header, index=list(rows), dtype="str")[columns]
    _validate(path, frame, split)
    frame = frame.reset_index(drop=True)
    ignored = [name for name in header if name not in columns]
    if ignored:
        names = ", ".join(_shown(name) or "(unnamed)" for name in ignored)
        log.info("%s: columns ignored (%d): %s", path, len(ignored), names)
    frame.attrs["ignored_columns"] = ignored
    return frame


def write_table(frame: pd.DataFrame, path: Path) -> None:
    """Write a table of text, whole; `read_table` gives the same strings back, line ends in them included.

    Raises:
        TypeError: a value is not text, such as the NaN that a join leaves.
    """
    rows = frame.to_numpy(dtype=object).tolist()
    for value in (value for row in rows for value in row):
        if not isinstance(value, str):
            raise TypeError(f"{path}: {value!r} is not text")
    write_text(path, "".join(map(_line, [list(frame.columns), *rows])))


def reference_columns(frame: pd.DataFrame) -> list[str]:
    """The columns that hold reference summaries: `summary`, or `summary1`, `summary2`, ..., or none."""
    return _reference_names(list(frame.columns))


def references(frame: pd.DataFrame) -> list[list[str]]:
    """The references of each row (rows x references), blank ones left out; [] for a row that has none."""
    rows = frame[reference_columns(frame)].to_numpy(dtype=object).tolist()
    return [[reference for reference in row if reference.strip()] for row in rows]


def _line(fields: list[str]) -> str:
    # Below Python 3.13 a field is quoted for the characters of `lineterminator` only: "\n" would lose a "\r".
    buffer = io.StringIO(newline="")
    csv.writer(buffer, lineterminator="\r\n").writerow(fields)
    return buffer.getvalue().removesuffix("\r\n") + "\n"


def _read_text(path: Path) -> str:
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise UserError(f"{path}: not found; put the table there or set data.source to its folder") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); put a CSV file there") from None
    try:
        text = data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        guess = " but probably CP949" if _decodes(data, "cp949") else ""
        raise UserError(
            f"{path}: line {line}, byte {error.start}: not UTF-8{guess}; save it as UTF-8 (in Excel: CSV UTF-8)"
        ) from None
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise UserError(f"{path}: line {line}: a NUL character; remove it or export the table again")
    return text


def _decodes(data: bytes, encoding: str) -> bool:
    try:
        data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return True


def _parse(path: Path, text: str) -> tuple[list[str], dict[int, list[str]]]:
    """The header, and each row under the number of the line that it starts on.

    pandas would pad short rows and let a file end within quotation marks; `csv` can be strict.
    """
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: dict[int, list[str]] = {}
    line = 1
    try:
        for fields in reader:
            if fields:
                records[line] = fields
            line = reader.line_num + 1
    except csv.Error:
        raise UserError(
            f"{path}: line {line}: the quotation marks of the row that starts here do not match; "
            'close the one that opens a field and write those within as ""'
        ) from None
    if not records:
        raise UserError(f"{path}: empty; a table needs a header and at least one row")
    return records.pop(next(iter(records))), records


def _columns(path: Path, header: list[str], split: Split) -> list[str]:
    """The columns to keep, in order."""
    for name, count in Counter(header).items():
        if name and count > 1:
            raise UserError(f"{path}: column {_shown(name)}: {count} times in the header; keep one")
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
                f"{path}: column {name}: missing from the header {_shown(','.join(header))}; "
                f"add {name}, with commas between columns"
            )
    return ["fname", "dialogue", *reference, *(name for name in ("topic", "source") if name in header)]


def _reference_names(names: list[str]) -> list[str]:
    numbered = sorted(filter(_NUMBERED_SUMMARY.fullmatch, names), key=lambda name: int(name[len("summary") :]))
    return [*(name for name in names if name == "summary"), *numbered]


def _validate(path: Path, frame: pd.DataFrame, split: Split) -> None:
    """Check the values of a table whose index holds line numbers."""
    checks = {
        "fname": [
            _not_blank("give each row a name of its own"),
            pa.Check(
                lambda names: ~names.duplicated(),
                error="a row above has it too; give each row a name of its own",
            ),
        ],
        "dialogue": [
            _not_blank("write the dialogue or delete the row"),
            pa.Check(
                lambda dialogue: bool(_SPEAKER.search(dialogue)),
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
        where = _row(frame.at[line, "fname"], line)
        raise UserError(f"{path}: {where}, column {error.schema.name}: {error.check.error}") from None


def _not_blank(remedy: str) -> pa.Check:
    return pa.Check(lambda value: bool(value.strip()), element_wise=True, error=f"empty; {remedy}")


def _row(fname: str, line: int) -> str:
    return f"row {_shown(fname)} (line {line})" if fname.strip() else f"line {line}"


def _shown(text: str) -> str:
    """A text as part of an error message: on one line, and not too long."""
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:79] + "…"
