"""How much of a text is Korean."""

from __future__ import annotations

import unicodedata

from stages.corpus.dialogue import MASK_OR_SPEAKER


def letters(text: str) -> list[str]:
    """The letters of a text, those of tags and masks left out."""
    return [char for char in MASK_OR_SPEAKER.sub("", text) if char.isalpha()]


def hangul_share(text: str) -> float:
    """The share of a text's letters, outside tags and masks, that are Hangul, 0 to 1; 0 without letters."""
    found = letters(text)
    return sum("HANGUL" in unicodedata.name(char, "") for char in found) / max(len(found), 1)
