"""Kiwi, the morphological analyzer, loaded once for each set of options, and the tokens that it must not take apart."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING

from stages.corpus.dialogue import MASK_OR_SPEAKER

if TYPE_CHECKING:
    from kiwipiepy import Kiwi


@cache
def kiwi(**options: int | bool) -> Kiwi:
    """Kiwi with these of its options."""
    # Loading takes seconds: importing this module must not.
    from kiwipiepy import Kiwi

    return Kiwi(**options)


def mask_spans(text: str) -> list[tuple[int, int, str]]:
    """Where masks and speaker tags stand, each one token for Kiwi: what its argument `pretokenized` takes.

    >>> mask_spans("#Person1#은 #Address#")
    [(0, 9, 'W_HASHTAG'), (11, 20, 'W_HASHTAG')]
    """
    return [(*match.span(), "W_HASHTAG") for match in MASK_OR_SPEAKER.finditer(text)]
