"""Which characters a text must have for a regular expression to match anywhere in it.

Most rules look for rare characters: knowing them, cleaning need not search a text that has none of them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from re import _parser  # type: ignore[attr-defined]  # the standard library's own, under this name since 3.11
from typing import Any

LARGEST_CLASS = 64
"""Larger classes, such as all syllables, say too little to be worth a look."""


def required_characters(pattern: re.Pattern[str]) -> tuple[frozenset[str], ...]:
    """Sets of characters, of each of which every text that `pattern` matches has at least one.

    What the pattern's form does not tell is left out: an empty tuple promises nothing.
    """
    if pattern.flags & re.IGNORECASE:
        return ()
    return tuple(dict.fromkeys(_sets(_parser.parse(pattern.pattern, pattern.flags))))


def _sets(items: Iterable[tuple[Any, Any]]) -> list[frozenset[str]]:
    sets: list[frozenset[str]] = []
    for name, value in items:
        match str(name), value:
            case "LITERAL", code:
                sets.append(frozenset(chr(code)))
            case "IN", members:
                sets += _class(members)
            case "SUBPATTERN", (_, flags, _, inner):
                sets += [] if flags & re.IGNORECASE else _sets(inner)
            case "MAX_REPEAT" | "MIN_REPEAT" | "POSSESSIVE_REPEAT", (least, _, inner):
                sets += _sets(inner) if least else []
            case "ATOMIC_GROUP", inner:
                sets += _sets(inner)
            case "ASSERT", (_, inner):
                sets += _sets(inner)
            case "BRANCH", (_, alternatives):
                found = [_sets(inner) for inner in alternatives]
                if all(found):
                    sets.append(frozenset().union(*(min(each, key=len) for each in found)))
    return sets


def _class(members: list[tuple[Any, Any]]) -> list[frozenset[str]]:
    characters: set[str] = set()
    for name, value in members:
        match str(name), value:
            case "LITERAL", code:
                characters.add(chr(code))
            case "RANGE", (first, last) if last - first < LARGEST_CLASS:
                characters.update(map(chr, range(first, last + 1)))
            case _:
                return []
    return [frozenset(characters)] if len(characters) <= LARGEST_CLASS else []
