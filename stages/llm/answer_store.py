"""The answers of a language model, kept in a file of JSON lines, so that no question is paid for twice."""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from dataclasses import astuple, dataclass, replace
from pathlib import Path

from stages.core.append_log import AppendLog
from stages.core.errors import UserError
from stages.llm.budget import Usage

Message = dict[str, str]
"""One message of a conversation: `role` (system, user or assistant) and `content`."""

REFUSALS = ("content_filter", "context_length", "refusal", "refused")
"""Reasons to end that leave no answer: by a filter, for its length, by the model, and by the server in its words."""


@dataclass(frozen=True)
class Request:
    """All that an answer depends on; `sample` tells apart several answers to the same question."""

    model: str
    messages: list[Message]
    temperature: float
    max_answer_tokens: int
    sample: int = 0

    @property
    def key(self) -> str:
        """The SHA-256 of the request, in hexadecimal."""
        asked = {
            "model": self.model,
            "messages": self.messages,
            "temperature": self.temperature,
            "max_tokens": self.max_answer_tokens,
            "sample": self.sample,
        }
        text = json.dumps(asked, ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: from which model, why it ended (`length`: cut off at max_tokens), and the tokens it took.

    `refusal` is what model or server say where they do not answer; it may be empty then too.
    """

    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    refusal: str = ""

    @property
    def usage(self) -> Usage:
        return Usage(1, self.prompt_tokens, self.completion_tokens)

    @property
    def refused(self) -> bool:
        """Whether this is no answer to the question; one that was cut off before its first word is one."""
        if self.refusal or self.finish_reason in REFUSALS:
            return True
        return not self.text.strip() and self.finish_reason != "length"


def tell_apart(requests: Iterable[Request]) -> Iterator[tuple[str, Request]]:
    """Each request with its key; one that occurs again asks for another sample."""
    with closing(_scratch("CREATE TABLE asked (question TEXT PRIMARY KEY, again INTEGER) WITHOUT ROWID")) as scratch:
        count = "INSERT INTO asked VALUES (?, 0) ON CONFLICT DO UPDATE SET again = again + 1 RETURNING again"
        for request in requests:
            key = request.key
            [(sample,)] = scratch.execute(count, [key])
            if sample:
                request = replace(request, sample=sample)
                key = request.key
            yield key, request


class Answers:
    """The answers in a file, by the key of their request; each new one is appended as it arrives.

    Several processes may use one file: each keeps what the others add, and where two answer the same request, the
    first answer stays, except that anything takes the place of a refusal. What a process knows of them is on disk too,
    so that memory does not grow with their number.
    """

    def __init__(self, path: Path) -> None:
        """Load the file, which may be missing. What a killed run wrote half of its last line is cut off.

        Raises:
            UserError: a line is no answer record.
        """
        self._file = AppendLog(path)
        self._known = _scratch(
            "CREATE TABLE answers (key TEXT PRIMARY KEY, model TEXT, text TEXT, finish_reason TEXT,"
            " prompt_tokens INTEGER, completion_tokens INTEGER, refusal TEXT, refused INTEGER)",
            "CREATE TABLE used (number INTEGER PRIMARY KEY, key TEXT, sample INTEGER)",
        )
        if path.exists():
            with self._file.locked():
                self._take_in()

    def __contains__(self, key: str) -> bool:
        return self._known.execute("SELECT 1 FROM answers WHERE key = ?", [key]).fetchone() is not None

    def __getitem__(self, key: str) -> Answer:
        row = self._known.execute(f"SELECT {_COLUMNS} FROM answers WHERE key = ?", [key]).fetchone()
        if row is None:
            raise KeyError(key)
        return Answer(*row)

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer, in the file too before this returns."""
        with self._file.locked():
            self._take_in()
            if key not in self or self[key].refused:
                self._file.append(_line(key, answer))
                self._learn(key, answer)

    def save(self) -> None:
        """Write the file whole, sorted by key: the same answers give the same bytes, however they came."""
        with self._file.locked():
            self._take_in()
            rows = self._known.execute(f"SELECT key, {_COLUMNS} FROM answers ORDER BY key")
            self._file.replace(_line(key, Answer(*row)) for key, *row in rows)

    def use(self, requests: Iterable[tuple[str, int]]) -> None:
        """Put in use the answers to these requests, there or still to come, instead of those of an earlier call.

        Args:
            requests: the key and the sample of each.
        """
        self._known.execute("DELETE FROM used")
        self._known.executemany("INSERT INTO used (key, sample) VALUES (?, ?)", requests)

    def missing(self) -> Iterator[tuple[int, str, int]]:
        """The number, from 0, the key and the sample of each request in use that has no answer when its turn comes."""
        without = "NOT EXISTS (SELECT 1 FROM answers WHERE answers.key = used.key)"
        return self._known.execute(f"SELECT number - 1, key, sample FROM used WHERE {without} ORDER BY number")

    def used(self) -> Iterator[Answer | None]:
        """The answers in use, each read when its turn comes, in the order of their requests; None for a missing one."""
        columns = f"answers.key, {_COLUMNS}"
        rows = self._known.execute(f"SELECT {columns} FROM used LEFT JOIN answers USING (key) ORDER BY number")
        return (None if key is None else Answer(*row) for key, *row in rows)

    def refusals(self) -> int:
        """How many of the answers in use are refusals."""
        return sum(answer is not None and answer.refused for answer in self.used())

    def forget_refusals(self) -> None:
        """Let the requests in use that were refused be missing; the file has them until something else is there."""
        self._known.execute("DELETE FROM answers WHERE refused AND key IN (SELECT key FROM used)")

    def usage(self) -> Usage:
        """What the answers in use took, whichever run asked for them: the same in a clone that asks for nothing."""
        return sum((answer.usage for answer in self.used() if answer), Usage())

    def _take_in(self) -> None:
        for number, line in self._file.read_new():
            self._learn(*_read(line, f"{self._file.path}, line {number}"))

    def _learn(self, key: str, answer: Answer) -> None:
        values = [key, *astuple(answer), answer.refused]
        self._known.execute("DELETE FROM answers WHERE key = ? AND refused", [key])
        self._known.execute("INSERT OR IGNORE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?)", values)


_COLUMNS = "model, text, finish_reason, prompt_tokens, completion_tokens, refusal"
"""The fields of an Answer."""


def _scratch(*tables: str) -> sqlite3.Connection:
    """A database for this process alone: on disk past half a megabyte, in a file that is gone when the process is."""
    database = sqlite3.connect("", isolation_level=None)
    database.execute("PRAGMA journal_mode = OFF")  # nothing is ever rolled back
    database.execute("PRAGMA cache_size = -500")  # kB; the default of 2 MB is no faster
    for table in tables:
        database.execute(table)
    database.execute("BEGIN")  # one transaction for ever: each statement by itself would begin and end one
    return database


def _line(key: str, answer: Answer) -> str:
    record: dict[str, str | int] = {
        "key": key,
        "model": answer.model,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
    }
    if answer.refusal:
        record["refusal"] = answer.refusal
    return json.dumps(record, ensure_ascii=False)


def _read(line: bytes, place: str) -> tuple[str, Answer]:
    """Read a line; one without reason and tokens comes from a version that did not keep them."""
    problem = f"{place}: not an answer record; remove the line, or restore the file from Git"
    try:
        record = json.loads(line)
    except ValueError:
        raise UserError(problem) from None
    match record:
        case {
            "key": str(key),
            "model": str(model),
            "answer": str(text),
            "finish_reason": str(reason),
            "prompt_tokens": int(prompt),
            "completion_tokens": int(completion),
            **rest,
        } if isinstance(refusal := rest.get("refusal", ""), str):
            return key, Answer(model, text, reason, prompt, completion, refusal)
        case {"key": str(key), "model": str(model), "answer": str(text), **rest} if not rest:
            return key, Answer(model, text, "stop", 0, 0)
    raise UserError(problem)
