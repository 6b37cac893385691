"""CSV read strictly, whoever wrote it: what spreadsheets leave behind is mended and counted, the rest is refused.

All text comes in the composed form of Unicode (NFC). macOS writes Hangul in pieces, which no rule, no token and no
other spelling of the same word matches.
"""

from __future__ import annotations

import csv
import logging
import re
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TextIO

from stages.core.errors import UserError

log = logging.getLogger(__name__)

MENDED = {
    "byte_order_marks": "byte order marks after the first left out",
    "separator_lines": "lines sep=, left out",
    "header_blanks": "names in the header without the blanks around them",
    "repeated_headers": "rows that repeat the header left out",
    "blank_rows": "rows without text left out",
    "end_marks": "end-of-file marks (Ctrl-Z) left out",
    "blank_cells": "rows without the empty cells behind the last column, or with those that lacked",
    "decomposed_texts": "texts of decomposed characters, as macOS writes Hangul, composed",
    "large_cells": "cells of more than 131,072 characters kept, which may be a quotation mark that closes too late",
}
"""What is mended while a table is read, and how it is told."""

LARGE = 131_072
"""Characters of a cell that is told of: where other readers stop."""
LARGEST = 10_000_000
"""Characters of a cell, so that a quotation mark that is never closed does not take a whole file into memory."""

_BOM = "\ufeff"
_INVISIBLE = _BOM + "\u200b\u200c\u200d\u2060"
_VISIBLE = re.compile(rf"[^\s{_INVISIBLE}]")
_END = "\x1a"
_CELL_START = re.compile(r'(^|,)[^\S\r\n]*("[^"]*(?:""[^"]*)*("?))?')
"""Where a cell begins, the blanks in front of it, and all of it if it is quoted, with its last quotation mark."""
_BLANK_BEFORE_COMMA = re.compile(r'"[^\S\r\n]+(?:,|\r?$)')
_SEPARATORS = {";": "semicolons", "\t": "tabs", "|": "vertical bars"}


@dataclass(frozen=True)
class CsvRows:
    """A CSV file whose header is read; its rows are read one by one."""

    path: Path
    header: list[str]
    """The names of the columns, "" for one without; [] for an empty file."""
    rows: Iterator[tuple[int, list[str]]]
    """The rows that are still to be read: the line that each starts on, and a cell for each column."""
    mended: Counter[str] = field(default_factory=Counter)
    """How often each of MENDED was, so far."""

    def tell(self) -> None:
        """Log what was mended."""
        for name, text in MENDED.items():
            if self.mended[name]:
                log.info("%s: %s (%d)", self.path, text, self.mended[name])


def open_rows(path: Path, *, missing: str) -> CsvRows:
    """Open a CSV file, UTF-8, to read it row by row.

    Args:
        missing: what to do where there is no such file, for the error.

    Raises:
        UserError: the file breaks a rule; one that a row breaks is found when the row is read. The message names the
            file, the row, and what to do.
    """
    mended: Counter[str] = Counter()
    rows = _rows(path, missing, mended)
    _, header = next(rows, (0, []))
    for separator, name in _SEPARATORS.items():
        if len(header) == 1 and separator in header[0]:
            raise UserError(
                f"{path}: {name} between the columns of the header {shown(header[0])}; put commas there "
                "(in Excel: CSV UTF-8)"
            )
    return CsvRows(path, header, rows, mended)


def has_text(cell: str) -> bool:
    """Whether there is more in a cell than blanks and characters that nobody sees."""
    return _VISIBLE.search(cell) is not None


def row_name(fname: str, line: int) -> str:
    """A row as part of an error message."""
    return f"row {shown(fname)} (line {line})" if fname.strip() else f"line {line}"


def shown(text: str) -> str:
    """A text as part of an error message: on one line, and not too long."""
    text = " ".join(text.split())
    return text if len(text) <= 80 else text[:79] + "…"


class _Lines:
    """The lines of a file, numbered; the first of a row is without a byte order mark."""

    def __init__(self, path: Path, file: TextIO, mended: Counter[str]) -> None:
        self._path, self._file, self._mended = path, file, mended
        self.number = 0
        self.last = ""
        self.starts_row = True
        self.blanks = False
        """Whether the blanks in front of a cell are no part of it."""
        self._within = False

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = next(self._file)
        self.number += 1
        self.last = line
        if "\0" in line:
            raise _nul(self._path, self.number)
        if line.endswith(_END):  # and so without a line end: the last one
            self._mended["end_marks"] += 1
            line = line.rstrip(_END)
            if not line:
                raise StopIteration
        if self.starts_row:
            self.starts_row = self._within = False
            bare = line.lstrip(_BOM)
            # One at the start of a file is how it says that it is UTF-8.
            self._mended["byte_order_marks"] += max(len(line) - len(bare) - (self.number == 1), 0)
            line = bare
        return self._without_blanks(line) if self.blanks else line

    def _without_blanks(self, line: str) -> str:
        """A line without the blanks that cells begin with, of which `skipinitialspace` of `csv` knows but one."""
        text = f'"{line}' if self._within else line
        bare = _CELL_START.sub(r"\1\2", text)[len(text) - len(line) :]
        *_, last = _CELL_START.finditer(text)
        self._within = bool(last[2]) and not last[3]
        return bare


def _rows(path: Path, missing: str, mended: Counter[str]) -> Iterator[tuple[int, list[str]]]:
    """Each row, the header first, with the number of the line that it starts on.

    pandas would pad short rows and let a file end within quotation marks; `csv` can be strict.
    """
    line = 1
    try:
        csv.field_size_limit(LARGEST)
        with path.open(encoding="utf-8", newline="") as file:
            lines = _Lines(path, file, mended)
            written, names = _header(lines, mended)
            if not names:
                return
            yield line, names
            # Where blanks follow the header's commas, those that follow the commas below are no text either.
            lines.blanks = any(name[:1].isspace() for name in written[1:])
            width = max(place for place, name in enumerate(names, start=1) if name)
            lines.starts_row, line = True, lines.number + 1
            for fields in csv.reader(lines, strict=True):
                if fields == [_END]:
                    mended["end_marks"] += 1
                elif not any(map(has_text, fields)):
                    mended["blank_rows"] += 1
                elif fields in (written, names):
                    mended["repeated_headers"] += 1
                else:
                    if len(fields) != len(names):
                        fields = _fitted(path, line, fields, names, width)
                        mended["blank_cells"] += 1
                    for place, text in enumerate(fields):
                        if not unicodedata.is_normalized("NFC", text):
                            fields[place] = unicodedata.normalize("NFC", text)
                            mended["decomposed_texts"] += 1
                        if len(text) > LARGE:
                            mended["large_cells"] += 1
                    yield line, fields
                lines.starts_row, line = True, lines.number + 1
    except csv.Error as error:
        if "field limit" in str(error):
            raise UserError(
                f"{path}: line {line}: the row that starts here has a cell of more than {LARGEST:,} characters; "
                "shorten it, or close its quotation mark"
            ) from None
        if "expected after" in str(error) and _BLANK_BEFORE_COMMA.search(lines.last):
            raise UserError(
                f"{path}: line {line}: the row that starts here has a blank between a quotation mark and the comma "
                "behind it; leave none there"
            ) from None
        raise UserError(
            f"{path}: line {line}: the quotation marks of the row that starts here do not match; "
            'close the one that opens a field and write those within as ""'
        ) from None
    except FileNotFoundError:
        raise UserError(f"{path}: not found; {missing}") from None
    except UnicodeDecodeError:
        raise _not_utf8(path) from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); put a CSV file there") from None


def _header(lines: _Lines, mended: Counter[str]) -> tuple[list[str], list[str]]:
    """The first row with text: its cells as they are written, and the names in them; none in an empty file."""
    for fields in csv.reader(lines, strict=True):
        lines.starts_row = True
        if not any(map(has_text, fields)):
            mended["blank_rows"] += 1
        elif fields[0].strip().casefold().startswith("sep=") and not any(fields[1:]):
            mended["separator_lines"] += 1
        else:
            # Again, for a quotation mark behind a blank: `fname, "dialogue"`.
            bare_line = _CELL_START.sub(r"\1\2", ",".join(fields))
            again = next(csv.reader([bare_line])) if any(name[:1].isspace() for name in fields) else fields
            written = again if len(again) == len(fields) else fields
            bare = [name.strip(_INVISIBLE).strip() for name in written]
            names = [unicodedata.normalize("NFC", name) for name in bare]
            mended["header_blanks"] += sum(name != cell for name, cell in zip(bare, fields, strict=True))
            mended["decomposed_texts"] += sum(map(str.__ne__, names, bare))
            return fields, names
    return [], []


def _fitted(path: Path, line: int, fields: list[str], names: list[str], width: int) -> list[str]:
    """A row of as many cells as there are columns, where only empty ones are too many or too few.

    Spreadsheets write rows whose last cells are empty in different lengths. `width` is that of the named columns.

    Raises:
        UserError: cells with text are too many, or cells of named columns too few.
    """
    surplus = fields[len(names) :]
    if len(fields) >= width and not any(map(has_text, surplus)):
        return (fields + [""] * len(names))[: len(names)]
    fname = dict(zip(names, fields, strict=False)).get("fname", "")
    where = f"{path}: {row_name(fname, line)}: {len(fields)} fields where the header has {len(names)}"
    if any(text.lstrip().startswith('"') for text in fields if text[:1].isspace()):
        raise UserError(f"{where}; leave no blank between a comma and the quotation mark behind it")
    raise UserError(f"{where}; put fields that hold commas or newlines in quotation marks")


def _nul(path: Path, line: int) -> UserError:
    with path.open("rb") as file:
        if b"\0" in file.read(4):
            return UserError(f"{path}: line 1: not UTF-8 but UTF-16; save it as UTF-8 (in Excel: CSV UTF-8)")
    return UserError(f"{path}: line {line}: a NUL character; remove it or export the table again")


def _not_utf8(path: Path) -> UserError:
    """Say where a file stops being UTF-8, and what it may be instead."""
    with path.open("rb") as file:
        begins_as_utf16 = file.read(2) in (b"\xff\xfe", b"\xfe\xff") or b"\0" in file.read(2)
    guess = " but UTF-16" if begins_as_utf16 else " but probably CP949" if _decodes(path, "cp949") else ""
    position = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                where = f"line {number}, byte {position + error.start}"
                break
            position += len(line)
    return UserError(f"{path}: {where}: not UTF-8{guess}; save it as UTF-8 (in Excel: CSV UTF-8)")


def _decodes(path: Path, encoding: str) -> bool:
    try:
        with path.open(encoding=encoding) as file:
            for _ in file:
                pass
    except UnicodeDecodeError:
        return False
    return True
