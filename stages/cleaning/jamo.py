"""Jamo left beside Korean syllables by a slip of the keyboard, and the syllables that may be meant."""

from __future__ import annotations

import re
from collections.abc import Iterator

INITIALS = "ㄱㄲㄴㄷㄸㄹㅁㅂㅃㅅㅆㅇㅈㅉㅊㅋㅌㅍㅎ"
VOWELS = "ㅏㅐㅑㅒㅓㅔㅕㅖㅗㅘㅙㅚㅛㅜㅝㅞㅟㅠㅡㅢㅣ"
FINALS = " ㄱㄲㄳㄴㄵㄶㄷㄹㄺㄻㄼㄽㄾㄿㅀㅁㅂㅄㅅㅆㅇㅈㅊㅋㅌㅍㅎ"

# Jamo at the end of a word laugh, weep or stand for words (ㅋ ㅎ ㅜ ㅠ ㅡ); ㄱ자 and ㄷ자 are the shapes of letters.
_STRAY = re.compile(
    r"(?<=[가-힣])[ㄱ-ㅣ](?=[가-힣])"
    r"|(?<=[가-힣])[ㄱ-ㅊㅌㅍㅏ-ㅛㅝ-ㅟㅢㅣ](?![ㄱ-ㅣ])"
    r"|(?<!\S)[ㄱ-ㅎ](?=[가-힣]{2})(?!.자)"
)
_SYLLABLE = re.compile(rf"([{INITIALS}])([{VOWELS}])([{FINALS[1:]}](?![{VOWELS}]))?")
_APART = re.compile(rf"(?<![ㄱ-ㅣ])(?:{_SYLLABLE.pattern})+(?![ㄱ-ㅣ])")


def repairs(line: str) -> Iterator[tuple[int, int, list[str]]]:
    """Where jamo stand in a line that are no abbreviation, and what may be meant there.

    Returns:
        For each place its start, its end and the rival texts: of "제ㅏ" they are 제, 제가, 제까, 제나 and so on, of
        "굥ㅔ" also 교에; letters that were typed apart, such as "ㅎㅏㄴ", have the one text 한.
    """
    for match in _APART.finditer(line):
        yield *match.span(), [_SYLLABLE.sub(lambda m: compose(m[1], m[2], m[3] or " "), match.group())]
    for match in _STRAY.finditer(line):
        before = line[match.start() - 1] if match.start() and not line[match.start() - 1].isspace() else ""
        texts = [before, *_completions(before, match.group())]
        yield match.start() - len(before), match.end(), sorted(set(texts))


def compose(initial: str, vowel: str, final: str) -> str:
    """The syllable of three jamo; a blank is no final."""
    index = (INITIALS.index(initial) * len(VOWELS) + VOWELS.index(vowel)) * len(FINALS) + FINALS.index(final)
    return chr(ord("가") + index)


def decompose(syllable: str) -> tuple[str, str, str]:
    """The inverse of `compose`."""
    rest, final = divmod(ord(syllable) - ord("가"), len(FINALS))
    initial, vowel = divmod(rest, len(VOWELS))
    return INITIALS[initial], VOWELS[vowel], FINALS[final]


def _completions(before: str, jamo: str) -> Iterator[str]:
    """The jamo as part of a syllable: with what is missing, or with a jamo of the syllable before it, if any."""
    initial, vowel, final = decompose(before) if before else ("", "", "")
    if jamo in VOWELS:
        yield from (before + compose(other, jamo, " ") for other in INITIALS)
        if before and final in INITIALS:
            yield compose(initial, vowel, " ") + compose(final, jamo, " ")
    elif jamo in INITIALS:
        yield from (before + compose(jamo, other, " ") for other in VOWELS)
    if before and final == " " and jamo in FINALS:
        yield compose(initial, vowel, jamo)
