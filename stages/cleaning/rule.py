"""What a rule of cleaning is, whether a step of the code or a row of the table of rules."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

from stages.cleaning.rule_prefilter import required_characters


@dataclass(frozen=True)
class Rule:
    """Something that cleaning replaces: a row of the table of rules, or a step of the structure."""

    id: str
    pattern: re.Pattern[str]
    replacement: str | Callable[[re.Match[str]], str]

    @cached_property
    def required(self) -> tuple[frozenset[str], ...]:
        """A text that has no character of one of these sets cannot match."""
        return required_characters(self.pattern)


def step(id: str, pattern: str, replacement: str | Callable[[re.Match[str]], str]) -> Rule:
    """A rule of which the pattern is still to be compiled.

    Raises:
        re.error: the pattern is no regular expression.
    """
    return Rule(id, re.compile(pattern), replacement)
