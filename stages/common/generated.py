"""What a language model wrote becomes a row only after these checks; what fails one is counted by reason."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from stages.common.dialogue import MASK_OR_SPEAKER, SPEAKER, parse_turns, render_turns

MIN_KOREAN_SHARE = 0.5
"""Share of the letters of a dialogue, and of a summary, that are Hangul; tags and masks do not count."""
LENGTH_RATIO = (0.5, 2.0)
"""A dialogue's length by the length asked for."""

_TURN = re.compile(SPEAKER.pattern + r"\s*:")

Row = dict[str, str]
Source = TypeVar("Source")


class Rejected(Exception):
    """Why a generated row is not used: a short phrase that groups rows of one fault."""


@dataclass(frozen=True)
class Generated:
    """An answer that can be read: the dialogue's lines and the summary are tidy, the topic may be empty."""

    dialogue: str
    summary: str
    topic: str


def read_generated(answer: str) -> Generated:
    """Read an answer and check what needs no other row to compare with.

    Raises:
        Rejected: there is no JSON object with the texts `dialogue` and `summary`, #Person1# does not begin, a
            turn is malformed, a text is empty or not Korean, or the summary names somebody who never speaks.
    """
    found = find_object(answer, "dialogue", "summary")
    if found is None:
        raise Rejected("no JSON object with dialogue and summary")
    dialogue, summary, topic = found["dialogue"], found["summary"], found.get("topic") or ""
    if not (isinstance(dialogue, str) and isinstance(summary, str) and isinstance(topic, str)):
        raise Rejected("dialogue, summary or topic is not text")
    if any(unicodedata.category(char) in ("Cc", "Cs") and char not in "\n\r\t" for char in dialogue + summary + topic):
        raise Rejected("control characters")
    dialogue = "\n".join(line.strip() for line in dialogue.strip().splitlines())
    turns = parse_turns(dialogue)
    if not dialogue.startswith("#Person1#:"):
        raise Rejected("dialogue does not start with #Person1#")
    if not all(turn.text for turn in turns):
        raise Rejected("an empty turn")
    if any(_TURN.search(turn.text) for turn in turns):
        raise Rejected("two turns in one line")
    generated = Generated(render_turns(turns), " ".join(summary.split()), " ".join(topic.split()))
    if not generated.summary:
        raise Rejected("empty summary")
    if min(korean_share(generated.dialogue), korean_share(generated.summary)) < MIN_KOREAN_SHARE:
        raise Rejected("not Korean")
    if not set(SPEAKER.findall(generated.summary)) <= {turn.speaker for turn in turns}:
        raise Rejected("summary names somebody who does not speak")
    return generated


def find_object(text: str, *keys: str) -> dict[str, Any] | None:
    """Find the first JSON object that has all the keys in a text with code fences or words around it.

    What a reasoning model thought before is skipped. Newlines in strings pass: models forget to escape them.
    """
    text = text.rpartition("</think>")[2]
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


def korean_share(text: str) -> float:
    """The share of a text's letters, outside tags and masks, that are Hangul, 0 to 1; 0 without letters."""
    letters = [char for char in MASK_OR_SPEAKER.sub("", text) if char.isalpha()]
    hangul = [char for char in letters if "HANGUL" in unicodedata.name(char, "")]
    return len(hangul) / len(letters) if letters else 0.0


def masks(text: str) -> Counter[str]:
    """How often each mask occurs in a text; speaker tags are none."""
    return Counter(tag for tag in MASK_OR_SPEAKER.findall(text) if not SPEAKER.fullmatch(tag))


def within_length_ratio(length: int, asked: int) -> bool:
    low, high = LENGTH_RATIO
    return low * asked <= length <= high * asked


def sift(
    to_row: Callable[[Source, str], Row], sources: Iterable[Source], answers: Iterable[str]
) -> tuple[list[Row], Counter[str]]:
    """Make a row of each source and its answer; return the rows and how many were rejected, by reason."""
    rows: list[Row] = []
    rejected: Counter[str] = Counter()
    for source, answer in zip(sources, answers, strict=True):
        try:
            rows.append(to_row(source, answer))
        except Rejected as reason:
            rejected[str(reason)] += 1
    return rows, rejected


def outcome(kept: int, rejected: Counter[str]) -> str:
    """Say how many were kept, and why others were not: `14 of 16 answers kept; rejected: 2 not Korean`."""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(rejected.items()))
    return f"{kept} of {kept + rejected.total()} answers kept" + (f"; rejected: {reasons}" if reasons else "")
