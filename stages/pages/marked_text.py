"""Text in runs, each with what is to be told from the text around it: tags, or what a change took out and put in."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher
from typing import Literal, NamedTuple

from stages.corpus.dialogue import MASK_OR_SPEAKER
from stages.pages.phrase import say

Mark = Literal["plain", "tag", "label", "deleted", "inserted", "shared", "shared_pair"]

# Digits and jamo are noise where they hang on to a word, so that a diff shows them by themselves.
_PIECE = re.compile(rf"{MASK_OR_SPEAKER.pattern}|\\n|\d+|[ㄱ-ㅣ]+|[^\W\dㄱ-ㅣ]+|\W")


class Span(NamedTuple):
    """Part of a text; a template draws each mark in its way."""

    text: str
    mark: Mark = "plain"


def mark_tags(text: str) -> list[Span]:
    """A dialogue or a summary with its speaker tags and masks set off."""
    runs, end = [], 0
    for tag in MASK_OR_SPEAKER.finditer(text):
        runs += [Span(text[end : tag.start()]), Span(tag[0], "tag")]
        end = tag.end()
    return [run for run in [*runs, Span(text[end:])] if run.text]


def mark_row(dialogue: str, summary: str) -> list[Span]:
    """A dialogue and, a line below, its summary."""
    return [*mark_tags(dialogue), Span("\n\n"), Span(say("Summary", "요약"), "label"), Span(" "), *mark_tags(summary)]


def mark_changes(before: str, after: str) -> list[Span]:
    """What turned `before` into `after`, word by word; white space shows where it came or went."""
    old, new = _PIECE.findall(before), _PIECE.findall(after)
    runs = []
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        if kind == "equal":
            runs.append(Span("".join(old[i:j])))
            continue
        if i < j:
            runs.append(Span(_visible(old[i:j]).replace("\n", "↵"), "deleted"))
        if k < m:
            runs.append(Span(_visible(new[k:m]).replace("\n", "↵\n"), "inserted"))
    return runs


def join_lines(lines: Iterable[Sequence[Span]]) -> list[Span]:
    """Lines of a text, with line feeds between them."""
    return [run for line in lines for run in (Span("\n"), *line)][1:]


def _visible(pieces: Sequence[str]) -> str:
    return "".join(pieces).replace("\r", "␍").replace(" ", "␣")
