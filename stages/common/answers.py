"""The answers of a language model, kept in a file of JSON lines, so that no question is paid for twice."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from stages.common.errors import UserError
from stages.common.journal import Journal
from stages.common.usage import Usage

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
        text = json.dumps(vars(self), ensure_ascii=False, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: from which model, why it ended (`length`: cut off at max_tokens), and the tokens it took."""

    model: str
    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int

    @property
    def usage(self) -> Usage:
        return Usage(1, self.prompt_tokens, self.completion_tokens)


class Answers:
    """The answers in a file, by the key of their request; each new one is appended as it arrives.

    Several processes may use one file: each keeps what the others add, and where two answer the same request, the
    first answer stays.
    """

    def __init__(self, path: Path) -> None:
        """Load the file, which may be missing. What a killed run wrote half of its last line is cut off.

        Raises:
            UserError: a line is no answer record.
        """
        self._file = Journal(path)
        self._answers: dict[str, Answer] = {}
        self._used: set[str] = set()
        if path.exists():
            with self._file.locked():
                self._take_in()

    def __contains__(self, key: str) -> bool:
        return key in self._answers

    def __getitem__(self, key: str) -> Answer:
        return self._answers[key]

    def get(self, key: str) -> Answer | None:
        return self._answers.get(key)

    def add(self, key: str, answer: Answer) -> None:
        """Keep an answer, in the file too before this returns."""
        with self._file.locked():
            self._take_in()
            if key not in self._answers:
                self._answers[key] = answer
                self._file.append(_line(key, answer))

    def save(self) -> None:
        """Write the file whole, sorted by key: the same answers give the same bytes, however they came."""
        with self._file.locked():
            self._take_in()
            self._file.replace([_line(key, self._answers[key]) for key in sorted(self._answers)])

    def use(self, keys: Iterable[str]) -> None:
        """Count the answers to these requests, there or still to come, in `usage`."""
        self._used.update(keys)

    def usage(self) -> Usage:
        """What the answers in use took, whichever run asked for them: the same in a clone that asks for nothing."""
        return sum((self._answers[key].usage for key in self._used if key in self._answers), Usage())

    def _take_in(self) -> None:
        for number, line in self._file.read_new():
            key, answer = _read(line, f"{self._file.path}, line {number}")
            self._answers.setdefault(key, answer)


def _line(key: str, answer: Answer) -> str:
    record = {
        "key": key,
        "model": answer.model,
        "answer": answer.text,
        "finish_reason": answer.finish_reason,
        "prompt_tokens": answer.prompt_tokens,
        "completion_tokens": answer.completion_tokens,
    }
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
        }:
            return key, Answer(model, text, reason, prompt, completion)
        case {"key": str(key), "model": str(model), "answer": str(text), **rest} if not rest:
            return key, Answer(model, text, "stop", 0, 0)
    raise UserError(problem)
