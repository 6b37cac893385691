"""What a text is cut into before it is scored: words, or morphemes by Kiwi or MeCab."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache
from typing import TYPE_CHECKING, NamedTuple

from stages.core.errors import UserError
from stages.corpus.kiwi import kiwi, mask_spans

if TYPE_CHECKING:
    from mecab import MeCab


class Morpheme(NamedTuple):
    """A morpheme's form, and the characters of its text that it stands for; 갔다 is 가 + 었 + 다."""

    form: str
    start: int
    end: int


Cutter = Callable[[Sequence[str]], list[list[Morpheme]]]
"""Finds the morphemes of texts, all at once. A "." in a form ends a sentence; inside a morpheme it is "·"."""

Analyzer = Callable[[Sequence[str]], list[str]]
"""Turns texts into their words or morphemes, separated by spaces."""

_INNER_DOT = re.compile(r"(?<=[^\s.])\.(?=[^\s.])")


def words(texts: Sequence[str]) -> list[str]:
    """The analyzer of the word level: words are what white space separates."""
    return list(texts)


def cut_with_kiwi(texts: Sequence[str]) -> list[list[Morpheme]]:
    """Kiwi's morphemes; a mask or a speaker tag is one."""
    analyzed = kiwi().tokenize(texts, pretokenized=mask_spans)
    return [[Morpheme(_INNER_DOT.sub("·", token.form), token.start, token.end) for token in row] for row in analyzed]


def cut_with_mecab(texts: Sequence[str]) -> list[list[Morpheme]]:
    """The morphemes of MeCab with mecab-ko-dic, as competition teams use it: a speaker tag is four.

    Raises:
        UserError: the package is not installed.
    """
    mecab = _mecab()
    return [
        [Morpheme(_INNER_DOT.sub("·", token.surface), token.span.start, token.span.end) for token in mecab.parse(text)]
        for text in texts
    ]


CUTTERS: dict[str, Cutter] = {"kiwi": cut_with_kiwi, "mecab": cut_with_mecab}
"""What `evaluate.morphemes` chooses from."""


def joined(morphemes: Sequence[Morpheme]) -> str:
    """The forms of a text's morphemes, separated by spaces."""
    return " ".join(morpheme.form for morpheme in morphemes)


def as_analyzer(cut: Cutter) -> Analyzer:
    """The analyzer of the morphemes that a cutter finds."""
    return lambda texts: list(map(joined, cut(texts)))


def remembering(cut: Cutter) -> Cutter:
    """A cutter that cuts each text once, however often it is asked."""
    known: dict[str, list[Morpheme]] = {}

    def cut_new(texts: Sequence[str]) -> list[list[Morpheme]]:
        new = list(dict.fromkeys(text for text in texts if text not in known))
        known.update(zip(new, cut(new), strict=True))
        return [known[text] for text in texts]

    return cut_new


kiwi_morphemes = as_analyzer(cut_with_kiwi)


@cache
def _mecab() -> MeCab:
    try:
        from mecab import MeCab
    except ImportError:
        raise UserError(
            'params.yaml: evaluate.morphemes = "mecab": the package python-mecab-ko is not installed; '
            "`pip install python-mecab-ko` (built for Python up to 3.12), or set kiwi"
        ) from None
    return MeCab()
