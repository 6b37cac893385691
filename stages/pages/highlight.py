"""Which parts of a text others have too."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby, pairwise

from stages.pages.marked_text import Mark, Span
from stages.scoring.morphemes import Morpheme
from stages.scoring.rouge import Text

_MARKS: tuple[Mark, Mark, Mark] = ("plain", "shared", "shared_pair")


def mark_overlap(text: str, morphemes: Sequence[Morpheme], others: Sequence[Text]) -> list[Span]:
    """The text with what ROUGE counts marked.

    Args:
        morphemes: those of the text.
        others: pairs of morphemes that any of them holds are marked as `shared_pair`, other morphemes that any holds
            as `shared`.
    """
    levels = _levels(len(text), [morpheme for morpheme in morphemes if morpheme.form.strip(".")], others)
    # A space is marked as far as both its neighbours are.
    for place in range(1, len(text) - 1):
        if text[place].isspace():
            levels[place] = min(levels[place - 1], levels[place + 1])
    return [
        Span("".join(text[place] for place in run), _MARKS[level])
        for level, run in groupby(range(len(text)), key=levels.__getitem__)
    ]


def _levels(length: int, morphemes: Sequence[Morpheme], others: Sequence[Text]) -> list[int]:
    """For each character 2, 1 or 0: the longest n-gram around it that another text holds."""
    unigrams = {form for other in others for form in other.unigrams}
    bigrams = {pair for other in others for pair in other.bigrams}
    levels = [0] * length
    for morpheme in morphemes:
        if morpheme.form in unigrams:
            _raise(levels, morpheme, 1)
    for first, second in pairwise(morphemes):
        if (first.form, second.form) in bigrams:
            _raise(levels, first, 2)
            _raise(levels, second, 2)
    return levels


def _raise(levels: list[int], morpheme: Morpheme, level: int) -> None:
    for place in range(morpheme.start, morpheme.end):
        levels[place] = max(levels[place], level)
