"""What ROUGE cannot see in a summary: who did what, facts out of nowhere, repetition, language and length.

Each check says what it found in one row, or nothing. How often they are wrong on the references of data/sample is
tested in tests/test_prediction_checks.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import combinations

from stages.corpus import invented_facts
from stages.corpus.dialogue import SPEAKER, parse_turns
from stages.corpus.hangul import hangul_share, letters
from stages.scoring.shape import length_ratio, repeated_words

PredictionCheck = Callable[[str, str, Sequence[str]], list[str]]
"""From a summary, its dialogue and its references to what is wrong, in a few words each."""

LEAST_HANGUL = 0.3
SHORT, LONG = 0.5, 2.0
"""Lengths, as shares of the references' mean length, that are too short and too long."""

_SUBJECT = re.compile(rf"({SPEAKER.pattern})\s*(?:은|는|이|가|도)(?!\w)")
_WORD = re.compile(r"[가-힣]+|\d+|[A-Za-z]+")
_MARGIN = 2


def swapped_speakers(summary: str, dialogue: str, references: Sequence[str]) -> list[str]:
    """Two speakers whose words the summary has the wrong way round.

    What follows `#Person1#은` is compared with what #Person1# says in the dialogue: a pair is named where at least
    three words more fit the speakers exchanged than fit them as they are. Words that both say, or neither, do not
    count; two characters stand for a word, since endings differ.

    ROUGE against the references is no use for this: with the particles put right, 42% of the sample's references
    score more against the others once their speakers are exchanged, since each tells of other facts.
    """
    told = _words_by_subject(summary)
    said: dict[str, set[str]] = {}
    for turn in parse_turns(dialogue):
        said.setdefault(turn.speaker, set()).update(_stems(turn.text))
    return [f"{a} and {b}" for a, b in combinations(sorted(said), 2) if _fit(told, said, a, b) < -_MARGIN]


def silent_speakers(summary: str, dialogue: str, references: Sequence[str]) -> list[str]:
    """Speaker tags of the summary that do not speak in the dialogue."""
    return invented_facts.silent_speakers(summary, dialogue)


def invented(summary: str, dialogue: str, references: Sequence[str]) -> list[str]:
    """Numbers in digits, Latin words and masks of the summary that the dialogue does not hold."""
    return [fact.text for fact in invented_facts.invented(summary, dialogue)]


def missing_masks(summary: str, dialogue: str, references: Sequence[str]) -> list[str]:
    """Masks that every reference holds and the summary does not."""
    if not references:
        return []
    masks = invented_facts.masks(references[0])
    return [mask for mask in masks if mask not in summary and all(mask in reference for reference in references)]


def repeats(summary: str, dialogue: str, references: Sequence[str]) -> list[str]:
    """Three words that occur twice one after the other; ROUGE counts each n-gram once."""
    return repeated_words(summary)


def not_korean(summary: str, dialogue: str, references: Sequence[str]) -> list[str]:
    """Less than 30% of the letters outside masks are Hangul: the model answered in another language."""
    share = hangul_share(summary)
    return [f"{share:.0%} Hangul"] if letters(summary) and share < LEAST_HANGUL else []


def length(summary: str, dialogue: str, references: Sequence[str]) -> list[str]:
    """Shorter than half of the references' mean length, or longer than twice."""
    if not references:
        return []
    ratio = length_ratio([summary], [references])
    return [] if SHORT <= ratio <= LONG else [f"{ratio:.2f} of the references"]


CHECKS: dict[str, PredictionCheck] = {
    "swapped_speakers": swapped_speakers,
    "silent_speakers": silent_speakers,
    "invented": invented,
    "missing_masks": missing_masks,
    "repeats": repeats,
    "not_korean": not_korean,
    "length": length,
}


def found(summary: str, dialogue: str, references: Sequence[str]) -> dict[str, list[str]]:
    """What the checks find in a row; those that find nothing are left out."""
    findings = {name: check(summary, dialogue, references) for name, check in CHECKS.items()}
    return {name: finding for name, finding in findings.items() if finding}


def _stems(text: str) -> set[str]:
    return {word[:2] for word in _WORD.findall(invented_facts.TAG.sub(" ", text))}


def _words_by_subject(summary: str) -> dict[str, set[str]]:
    """The words after each speaker that is a topic or a subject, up to the next one."""
    parts = _SUBJECT.split(summary)[1:]
    told: dict[str, set[str]] = {}
    for speaker, text in zip(parts[::2], parts[1::2], strict=True):
        told.setdefault(speaker, set()).update(_stems(text))
    return told


def _fit(told: dict[str, set[str]], said: dict[str, set[str]], a: str, b: str) -> int:
    """How many words more fit two speakers as they are than fit them exchanged."""
    only_a, only_b = said[a] - said[b], said[b] - said[a]
    of_a, of_b = told.get(a, set()), told.get(b, set())
    return len(of_a & only_a) - len(of_a & only_b) + len(of_b & only_b) - len(of_b & only_a)
