"""The answers of a language model, kept in a file of JSON lines, so that no question is paid for twice."""

from __future__ import annotations

import hashlib
import json
import logging
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import cast

from stages.common.errors import UserError
from stages.common.files import write_text

log = logging.getLogger(__name__)

Message = dict[str, str]
"""One message of a conversation: `role` (system, user or assistant) and `content`."""


@dataclass(frozen=True)
class Request:
    """All that an answer depends on; `sample` tells apart several answers to the same question."""

    model: str
    messages: list[Message]
    temperature: float
    max_tokens: int
    sample: int = 0

    @property
    def key(self) -> str:
        """The SHA-256 of the request, in hexadecimal."""
        text = json.dumps(asdict(self), ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


class Answers:
    """The answers in a file, by the key of their request; each new one is appended as it arrives."""

    def __init__(self, path: Path) -> None:
        """Load the file, which may be missing. What a killed run wrote half of its last line is cut off.

        Raises:
            UserError: a line is no answer record.
        """
        self._path = path
        self._records = {record["key"]: record for record in _load(path)}

    def __contains__(self, request: Request) -> bool:
        return request.key in self._records

    def __getitem__(self, request: Request) -> str:
        return self._records[request.key]["answer"]

    def add(self, request: Request, answer: str) -> None:
        """Keep an answer, in the file too before this returns."""
        record = {"key": request.key, "model": request.model, "answer": answer}
        self._records[request.key] = record
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("ab") as file:
            file.write(_line(record).encode())

    def save(self) -> None:
        """Write the file whole, sorted by key: the same answers give the same bytes, however they came."""
        write_text(self._path, "".join(_line(self._records[key]) for key in sorted(self._records)))


def _line(record: dict[str, str]) -> str:
    return json.dumps(record, ensure_ascii=False) + "\n"


def _load(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    *lines, torn = path.read_bytes().split(b"\n")
    if torn:
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - len(torn))
        log.info("%s: cut off a torn last line of %d bytes", path, len(torn))
    return [_record(line, f"{path}, line {number}") for number, line in enumerate(lines, 1)]


def _record(line: bytes, place: str) -> dict[str, str]:
    problem = f"{place}: not an answer record; remove the line, or restore the file from Git"
    try:
        record = json.loads(line)
    except ValueError:
        raise UserError(problem) from None
    match record:
        case {"key": str(), "model": str(), "answer": str()}:
            return cast(dict[str, str], record)
    raise UserError(problem)
