"""Drops clauses that only repeat an earlier one: small models write `커피를 마시고, 커피를 마십니다.`

It takes no chances. Only clauses that are strung together, by 고 or 며, and the end of a sentence are looked at; their
predicate has to be the same verb in the same tense and mood, without an auxiliary; and no word is written that the
model has not written.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from stages.corpus.kiwi import kiwi, mask_spans

_AND = ("고", "며", "으며")
_PAST = {("었",), ("았",), ("였",)}
_BREAK = re.compile(r"(?<![다라냐자])(?:고|며),?$|,$")
"""The end of a word after which a clause may end; what is said ends in 다고, and goes on."""
_AUXILIARY = re.compile(r"(?:있|싶|계시|계신|계십|나서|나면|나니|말|보|하|해|했|합|다니|지내|살|앉)")
"""How a word begins that makes one predicate with a 고 before it: 배우고 있습니다."""
_SUBJECT = re.compile(r"(?:은|는|이|가|도)$")
_SIGNS = ".,!?…"


class Clause(NamedTuple):
    """Words, the last of which is the predicate, and whether a sentence ends with it."""

    words: tuple[str, ...]
    last: bool


class Predicate(NamedTuple):
    """A verb or adjective with nothing but endings: the morphemes of its stem, of tense and respect, and the ending."""

    stem: tuple[tuple[str, str], ...]
    before: tuple[str, ...]
    ending: str


def split_clauses(sentences: Sequence[str]) -> list[Clause]:
    """The clauses of sentences, in order.

    >>> split_clauses(["둘은 만나고, 웃습니다."])
    [Clause(words=('둘은', '만나고,'), last=False), Clause(words=('웃습니다.',), last=True)]
    """
    clauses: list[Clause] = []
    for sentence in sentences:
        words: list[str] = []
        rest = sentence.split()
        for word, following in zip(rest, [*rest[1:], None], strict=True):
            words.append(word)
            goes_on = following is not None and not word.endswith(",") and _AUXILIARY.match(following)
            if following is None or (_BREAK.search(word) and not goes_on):
                clauses.append(Clause(tuple(words), following is None))
                words = []
    return clauses


def without_repeated_clauses(sentences: Sequence[str]) -> list[str]:
    """The sentences without clauses that say again what one before has said, in the same words.

    A clause without its subject repeats only the one right before it. Where it ends the sentence, the one before ends
    it instead, with its own words and the last one's predicate.

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
        before, after = clauses[:place], clauses[place + 1 :]
        if before and not before[-1].last and _repeats(clause, before[-1], adjacent=True):
            kept = Clause((*before[-1].words[:-1], clause.words[-1]), True) if clause.last else before[-1]
            return [*before[:-1], kept, *after]
        whole = clause.last and (not before or before[-1].last)
        # What follows has to name its subject, or it would get that of others.
        named = not clause.last and bool(after) and bool(_SUBJECT.search(after[0].words[0]))
        if (whole or named) and any(_repeats(clause, earlier, adjacent=False) for earlier in before):
            return [*before, *after]
    return None


def _repeats(clause: Clause, earlier: Clause, *, adjacent: bool) -> bool:
    """Whether a clause says no more than an earlier one; `adjacent`: right before it, in its sentence."""
    *words, predicate = (word.strip(_SIGNS) for word in clause.words)
    *others, first = (word.strip(_SIGNS) for word in earlier.words)
    more = len(others) - len(words)
    subject = more == 1 and bool(_SUBJECT.search(others[0]))
    if not words or others[more:] != words or not (more == 0 or (adjacent and subject)):
        return False
    if "?" in clause.words[-1] + earlier.words[-1] or _beginning(predicate) != _beginning(first):
        return False
    ours, theirs = _predicate(clause.words), _predicate(earlier.words)
    if ours is None or theirs is None or ours.stem != theirs.stem:
        return False
    if adjacent and clause.last:
        return theirs.ending in _AND and (ours.before == theirs.before or (not theirs.before and ours.before in _PAST))
    return ours.before == theirs.before and (clause.last or ours.ending in _AND)


def _beginning(word: str) -> str:
    """The first consonant and vowel, which a predicate keeps in all its forms."""
    return unicodedata.normalize("NFD", word)[:2]


def _predicate(words: Sequence[str]) -> Predicate | None:
    """A clause's last word, signs left out; None where it is no verb or adjective, or more than one."""
    text = " ".join(words).rstrip(_SIGNS)
    start = len(text) - len(text.split(" ")[-1])
    morphemes = [token for token in kiwi().tokenize(text, pretokenized=mask_spans(text)) if token.start >= start]
    count = next((i for i, token in enumerate(morphemes) if token.tag.startswith("E")), 0)
    stem, *endings = morphemes[:count], *morphemes[count:]
    if not any(token.tag.startswith(("VV", "VA", "XSV", "XSA")) for token in stem):
        return None
    if any(token.tag == "VX" for token in stem) or any(token.tag != "EP" for token in endings[:-1]):
        return None
    return Predicate(
        tuple((token.form, token.tag) for token in stem), tuple(token.form for token in endings[:-1]), endings[-1].form
    )


def _joined(clauses: Sequence[Clause]) -> Iterator[str]:
    words: list[str] = []
    for clause in clauses:
        words += clause.words
        if clause.last:
            yield " ".join(words)
            words = []
    if words:
        yield " ".join(words)
