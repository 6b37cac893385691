"""What a language model answered becomes a row, or is rejected with the reason kept."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from stages.augment.quality_gate import Rejected
from stages.core.files import write_json
from stages.corpus.dialogue import SPEAKER, parse_turns, render_turns
from stages.corpus.tables import AUGMENTED_COLUMNS, Row, write_table
from stages.corpus.thinking import without_thinking
from stages.llm.answer_store import Answer

REJECTED_COLUMNS = ["method", "origin", "reason", "dialogue", "summary"]
"""What a table of rejected answers holds."""

REFUSED = {
    "content_filter": "refused by a content filter",
    "context_length": "refused as too long",
    "refusal": "refused by the model",
    "refused": "refused by the server",
    "tool_calls": "a tool call in place of an answer",
}
"""Reasons to reject what is no answer, by why it ended."""

_TURN = re.compile(SPEAKER.pattern + r"\s*:")

Source = TypeVar("Source")


@dataclass(frozen=True)
class Generated:
    """An answer that can be read: the dialogue's lines and the summary are tidy, the topic may be empty.

    Its characters are composed (NFC); `composed` tells whether some were not.
    """

    dialogue: str
    summary: str
    topic: str
    composed: bool = False


@dataclass(frozen=True)
class Rejection:
    """An answer that is not used.

    `origin` is the fname of the training row behind it, `dialogue` the whole answer where it cannot be read, and what
    the model or the server says where it refuses.
    """

    origin: str
    reason: str
    dialogue: str
    summary: str


def read_generated(answer: str) -> Generated:
    """Read an answer and check its form.

    Raises:
        Rejected: there is no JSON object with the texts `dialogue` and `summary`, #Person1# does not begin, a
            turn is malformed, or the summary is empty.
    """
    found = find_object(answer, "dialogue", "summary")
    if found is None:
        raise Rejected("no JSON object with dialogue and summary")
    dialogue, summary, topic = found["dialogue"], found["summary"], found.get("topic") or ""
    if not (isinstance(dialogue, str) and isinstance(summary, str) and isinstance(topic, str)):
        raise Rejected("dialogue, summary or topic is not text")
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\r\t" for char in dialogue + summary + topic):
        raise Rejected("control characters")
    given = dialogue, summary, topic
    dialogue, summary, topic = (unicodedata.normalize("NFC", text) for text in given)
    composed = (dialogue, summary, topic) != given
    dialogue = "\n".join(line.strip() for line in dialogue.strip().splitlines())
    turns = parse_turns(dialogue)
    if not dialogue.startswith("#Person1#:"):
        raise Rejected("dialogue does not start with #Person1#")
    if not all(turn.text for turn in turns):
        raise Rejected("an empty turn")
    if any(_TURN.search(turn.text) for turn in turns):
        raise Rejected("two turns in one line")
    generated = Generated(render_turns(turns), " ".join(summary.split()), " ".join(topic.split()), composed)
    if not generated.summary:
        raise Rejected("empty summary")
    return generated


def find_object(text: str, *keys: str) -> dict[str, Any] | None:
    """Find the first JSON object that has all the keys in a text with code fences or words around it.

    What a reasoning model thought before is skipped. Newlines in strings pass: models forget to escape them.
    """
    text = without_thinking(text)
    decoder = json.JSONDecoder(strict=False)
    start = text.find("{")
    while start >= 0:
        try:
            value, _ = decoder.raw_decode(text, start)
        except (ValueError, RecursionError):
            value = {}
        if all(key in value for key in keys):
            return dict(value)
        start = text.find("{", start + 1)
    return None


def sift(
    sources: Iterable[Source],
    answers: Iterable[Answer | None],
    to_row: Callable[[Source, Generated], Row],
    origin: Callable[[Source], str],
) -> tuple[list[Row], list[Rejection], int]:
    """Make a row of each source that has an answer.

    `to_row` may reject what was read, `origin` names the source's row.

    Returns:
        The rows, the rejected answers, and the number of answers whose characters had to be composed.
    """
    rows: list[Row] = []
    rejections: list[Rejection] = []
    composed = 0
    for source, answer in zip(sources, answers, strict=True):
        if answer is None:
            continue
        given = answer.refusal or answer.text
        dialogue, summary = unicodedata.normalize("NFC", given), ""
        decomposed = dialogue != given
        try:
            if answer.refused:
                raise Rejected(REFUSED.get(answer.finish_reason, "empty answer"))
            new = read_generated(answer.text)
            decomposed |= new.composed
            dialogue, summary = new.dialogue, new.summary
            rows.append(to_row(source, new))
        except Rejected as reason:
            rejections.append(Rejection(origin(source), str(reason), dialogue, summary))
        composed += decomposed
    return rows, rejections, composed


def count_reasons(rejections: Iterable[Rejection]) -> dict[str, int]:
    """How many answers were rejected for each reason, in the order of the reasons."""
    return dict(sorted(Counter(rejection.reason for rejection in rejections).items()))


def outcome(kept: int, rejections: Sequence[Rejection]) -> str:
    """Say how many were kept, and why others were not: `14 of 16 answers kept; rejected: 2 not Korean`."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in count_reasons(rejections).items())
    return f"{kept} of {kept + len(rejections)} answers kept" + (f"; rejected: {reasons}" if reasons else "")


def write_outputs(path: Path, rows: Sequence[Row], rejections: Sequence[Rejection], usage: dict[str, Any]) -> None:
    """Write a method's table and, beside it, what merge collects: rejected answers (.rejected.csv), counts (.json)."""
    method = path.stem
    write_table(pd.DataFrame(rows, columns=AUGMENTED_COLUMNS, dtype=str), path)
    rejected = [{"method": method, **asdict(rejection)} for rejection in rejections]
    write_table(pd.DataFrame(rejected, columns=REJECTED_COLUMNS, dtype=str), path.with_suffix(".rejected.csv"))
    write_json(path.with_suffix(".json"), {"rejected": count_reasons(rejections), "llm": usage})
