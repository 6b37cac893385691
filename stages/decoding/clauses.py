"""Drops clauses that only repeat an earlier one: small models write `커피를 마시고, 커피를 마십니다.`"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from stages.corpus.kiwi import kiwi, mask_spans

if TYPE_CHECKING:
    from kiwipiepy import Token

_BREAK = re.compile(r"(?:(?<![다라냐자])고|며|면서|지만|는데|은데|니까|아서|어서|해서|도록|다가|므로|려고),?$|,$")
"""The end of a word after which a clause may end; what is said ends in 다고, and goes on."""
_SIGNS = ".,!?…"


class Clause(NamedTuple):
    """Words, the last of which is the predicate, and whether a sentence ends with it."""

    words: tuple[str, ...]
    last: bool


def split_clauses(sentences: Sequence[str]) -> list[Clause]:
    """The clauses of sentences, in order.

    >>> split_clauses(["둘은 만나고, 웃습니다."])
    [Clause(words=('둘은', '만나고,'), last=False), Clause(words=('웃습니다.',), last=True)]
    """
    clauses: list[Clause] = []
    for sentence in sentences:
        words: list[str] = []
        rest = sentence.split()
        for place, word in enumerate(rest, start=1):
            words.append(word)
            if place == len(rest) or _BREAK.search(word):
                clauses.append(Clause(tuple(words), place == len(rest)))
                words = []
    return clauses


def without_repeated_clauses(sentences: Sequence[str]) -> list[str]:
    """The sentences without clauses that say again what one before has said, in the same words.

    The predicate may have another ending. A clause without its subject repeats only the one right before it, since
    others may have come between. Where the end of a sentence goes, the clause before takes over its ending.

    >>> without_repeated_clauses(["#Person1#은 커피를 마시고, 커피를 마십니다."])
    ['#Person1#은 커피를 마십니다.']
    """
    clauses = split_clauses(sentences)
    while (fewer := _drop_one(clauses)) is not None:
        clauses = fewer
    return list(_joined(clauses))


def _drop_one(clauses: list[Clause]) -> list[Clause] | None:
    """The clauses without the first that can go; None where all stay."""
    for place, clause in enumerate(clauses):
        earlier = (i for i in range(place) if _may_repeat(clause, clauses[i], adjacent=i == place - 1))
        if not any(_stem(clauses[i].words) == _stem(clause.words) is not None for i in earlier):
            continue
        kept = clauses[:place]
        if clause.last and kept and not kept[-1].last:
            finished = _finished(kept[-1].words, clause.words)
            if finished is None:
                continue
            kept[-1] = Clause(finished, last=True)
        return kept + clauses[place + 1 :]
    return None


def _may_repeat(clause: Clause, earlier: Clause, adjacent: bool) -> bool:
    """Whether all words but the predicate are the earlier clause's, and the predicates begin alike."""
    *words, predicate = (word.strip(_SIGNS) for word in clause.words)
    *before, first = (word.strip(_SIGNS) for word in earlier.words)
    same = before[-len(words) :] == words if adjacent else before == words
    return bool(words) and same and _beginning(predicate) == _beginning(first) != ""


def _beginning(word: str) -> str:
    """The first consonant and vowel, which a predicate keeps in all its forms."""
    return unicodedata.normalize("NFD", word)[:2]


def _predicate(words: Sequence[str]) -> tuple[list[Token], list[Token]] | None:
    """The morphemes of a clause's last word as stem and endings, signs left out; None where it is no predicate."""
    text = " ".join(words).rstrip(_SIGNS)
    start = len(text) - len(text.split(" ")[-1])
    morphemes = [token for token in kiwi().tokenize(text, pretokenized=mask_spans(text)) if token.start >= start]
    ending = next((i for i, token in enumerate(morphemes) if token.tag.startswith("E")), 0)
    if not any(token.tag.startswith(("V", "XSV", "XSA")) for token in morphemes[:ending]):
        return None
    return morphemes[:ending], morphemes[ending:]


def _stem(words: Sequence[str]) -> list[tuple[str, str]] | None:
    found = _predicate(words)
    return [(token.form, token.tag) for token in found[0]] if found else None


def _finished(words: Sequence[str], ended: Sequence[str]) -> tuple[str, ...] | None:
    """A clause with the ending and the signs of another, which ended its sentence; None where it has no predicate."""
    ours, theirs = _predicate(words), _predicate(ended)
    if not ours or not theirs or theirs[1][-1].tag != "EF":
        return None
    tense = [token for token in ours[1] if token.tag == "EP"]
    morphemes = [(token.form, token.tag) for token in (*ours[0], *tense, theirs[1][-1])]
    signs = ended[-1][len(ended[-1].rstrip(_SIGNS)) :]
    return (*words[:-1], kiwi().join(morphemes) + signs)


def _joined(clauses: Sequence[Clause]) -> Iterator[str]:
    words: list[str] = []
    for clause in clauses:
        words += clause.words
        if clause.last:
            yield " ".join(words)
            words = []
    if words:
        yield " ".join(words)
