"""Speaker tags that are written otherwise become `#PersonN#`, and those that begin a turn `#PersonN#: ` on a line.

Only what is surely a tag is mended, so that nobody's turn is cut in two: `check` tells of the rest, by row.
"""

from __future__ import annotations

import re
import unicodedata

from stages.cleaning.rule import Rule, step
from stages.corpus.dialogue import COLONS, COUNTED, PARTICLES, PERSON, SERIAL, SPEAKER, WORDS_LIKE_PARTICLES

_TAG = SPEAKER.pattern
_GAP = r"[^\S\n]"  # white space within a line
_PARTICLE, _WORD = (rf"(?:{each})(?![가-힣])" for each in (PARTICLES, WORDS_LIKE_PARTICLES))
_JOINT = rf"(?:{_GAP}|[_-])?"
_SIGN = "[#＃﹟♯]"
_N = r"(\d{1,2})(?!\d)"
_OPENING, _CLOSING = r"\[(<【「*_", r"\])>】」*_"
_QUOTES = "\"'`“”‘’\\\\"
_BULLET = rf"(?:[-•·▶►>{_OPENING}]|{_GAP}|\d{{1,2}}[.)])*"
_SENTENCE_END = r"""[.!?…~。！？"'”’)\]]"""

ODD = re.compile(
    rf"[PpＰｐ사](?:(?<!#[P사])|(?!(?:erson|람)\d+#))(?:(?<=사)람|(?<!사){PERSON.partition(']')[2]})(?:{_GAP}|[_#＃-])*\d"
)
"""Found in every text that has a name without its signs, or with others: in others there is nothing to mend."""


def _names(but: str) -> tuple[Rule, ...]:
    """Names without signs, but for those behind which `but` stands."""
    particle = rf"(?=(?:{PARTICLES})(?![가-힣]))"
    person, people = rf"(?<![#A-Za-z0-9]){PERSON}", r"(?<![#A-Za-z0-9가-힣])사람"
    end = rf"(?![A-Za-z%]|[.,]\d{but})"
    word = rf"(?<![A-Za-z]\.){person}", rf"(?!@|\.[A-Za-z]|{SERIAL}){end}"
    patterns = (
        f"{word[0]}[_-]?{_N}{word[1]}",
        rf"(?<![#A-Za-z0-9])Person{_GAP}{_N}{word[1]}",
        rf"{person}{_GAP}{_N}{particle}",
        rf"{people}{_N}(?!{_GAP}?(?:{COUNTED})){end}",
        rf"{people}{_GAP}{_N}{particle}",
    )
    return tuple(step("bare_tag", pattern, r"#Person\1#") for pattern in patterns)


def _inline_head(before: str) -> Rule:
    """A name without signs and a colon, within a line behind `before`."""
    name = rf"[{_OPENING}]*(?:{PERSON}|사람){_JOINT}{_N}[{_CLOSING}]*"
    return step("bare_tag", rf"(?<={before}){_GAP}+{name}{_GAP}*[{COLONS}](?!\d)", r"\n#Person\1#:")


_NAME = rf"(?:{PERSON}|사람){_JOINT}\d{{1,2}}(?!\d)"
SIGNED = (
    step(
        "bare_tag",
        rf"{_SIGN}{_GAP}*{_NAME}{_GAP}*{_SIGN}"
        rf"|{_SIGN}(?!사람{_JOINT}\d+{_GAP}?(?:{COUNTED})){_NAME}(?![A-Za-z])"
        rf"|(?<![A-Za-z0-9가-힣]){_NAME}{_GAP}?{_SIGN}"
        rf"|{_SIGN}?(?<![A-Za-z0-9가-힣])(?:{PERSON}{_GAP}?|사람){_SIGN}\d{{1,2}}(?!\d)",
        lambda match: f"#Person{''.join(filter(str.isdecimal, match.group()))}#",
    ),
)
"""Names with at least one sign, looked for between the tags and masks of a text."""
NAMES = _names("")
"""Names without signs, anywhere in a summary."""
NAMES_IN_TURNS = _names(rf"|{_GAP}*[{COLONS}]")
"""The same within a turn: with a colon behind it, a name may begin another."""
DIGITS = (step("tag_alias", r"(?<=#Person)[０-９]+(?=#)", lambda match: unicodedata.normalize("NFKC", match.group())),)

HEADS = (
    step(
        "bare_tag",
        rf"(?m)^{_BULLET}(?:{PERSON}|사람)(?:{_GAP}|[_-])*(\d+){_GAP}*[{_CLOSING}]*{_GAP}*[{COLONS}]",
        r"#Person\1#:",
    ),
)
"""A name without signs and a colon, at the start of a line."""
INLINE_HEADS = (_inline_head(r"\S"),)
"""The same within a line: sure where some line begins with a tag."""
AFTER_SENTENCE = (_inline_head(_SENTENCE_END),)
"""The same behind the end of a sentence, which is sure everywhere."""
HAS_HEAD = re.compile(rf"(?m)^{_GAP}*{_TAG}{_GAP}*[{COLONS}]")

COLON = (
    step("tag_colon", rf"({_TAG}){_GAP}*[：﹕∶︓]+:*", r"\1:"),
    step("tag_colon", rf"({_TAG})(?:{_GAP}+:+|::+)", r"\1:"),
    step("tag_colon", rf"(?m)^({_GAP}*{_TAG}){_GAP}*(?:[;；]|[-–—|>=→]+(?={_GAP}))", r"\1:"),
    step("tag_colon", rf"(?m)^({_GAP}*{_TAG}){_GAP}*(\([^()#\n]{{1,20}}\)){_GAP}*:", r"\1: \2"),
    step("tag_colon", rf"({_SENTENCE_END}{_GAP}*{_TAG}){_GAP}*[;；]", r"\1:"),
)
DECORATION = (
    step("tag_decoration", rf"(?m)^{_GAP}*[-*•·▶►>]+(?:[-*•·▶►>]|{_GAP})*(?={_TAG}[*_]*{_GAP}*:)", ""),
    step("tag_decoration", rf"(?m)^{_BULLET}[{_OPENING}]+({_TAG})[{_CLOSING}]++(?!{_PARTICLE}){_GAP}*:?[*_]*", r"\1:"),
    step("tag_decoration", rf"(?m)^({_TAG})[*_]+{_GAP}*:", r"\1:"),
    step("tag_decoration", rf"(?m)^{_GAP}*[{_QUOTES}]+({_TAG})[{_QUOTES}]+{_GAP}*:", r"\1:"),
    step("tag_decoration", rf"(?m)^({_TAG}:)[*_]+", r"\1"),
)
"""Bullets, numbers, brackets, quotation marks and Markdown around a tag that begins a turn."""
NUMBERED = (step("tag_decoration", rf"(?m)^{_GAP}*\d{{1,2}}[.)]{_GAP}*(?={_TAG}{_GAP}*:)", ""),)
"""Numbers of turns, in a dialogue that begins with one."""
# Two patterns that begin with a character, not with a look behind it: `re` skips to the next of those.
NEWLINE = (
    step("missing_newline", rf"#(?<=\S#){_TAG[1:]}:", r"\n\g<0>"),
    step("missing_newline", rf"{_GAP}(?<=\S{_GAP}){_GAP}*(?={_TAG}:)", r"\n"),
)
_BARE_HEAD = rf"(#(?<![^\n]#){_TAG[1:]})(?:{_GAP}*\n\s*|{_GAP}+)"
NO_COLON = (step("tag_no_colon", rf"{_BARE_HEAD}(?!{_PARTICLE})(?=\w)", r"\1: "),)
"""A tag and a blank, or nothing else, at the start of a line whose edges are mended: no particle follows."""
NO_COLONS = (step("tag_no_colon", rf"{_BARE_HEAD}(?={_WORD}|(?!{_PARTICLE})\w)", r"\1: "),)
"""The same where what follows may be a word or a particle: sure in a dialogue that begins so and has no colons."""
BEGINS_BARE = re.compile(rf"\s*{_TAG}(?:{_GAP}*\n\s*|{_GAP}+)\w")
HAS_COLON = re.compile(rf"{_TAG}{_GAP}*[{COLONS}]")

PARTICLE = (step("tag_particle", rf"({_TAG}){_GAP}+(?={_PARTICLE})", r"\1"),)
"""A blank between a tag and its particle."""
PARTICLE_IN_TURN = (
    step("tag_particle", rf"({_TAG}){_GAP}+(?!{_WORD})(?={_PARTICLE})", r"\1"),
    step(
        "tag_particle",
        rf"(?m)(#(?<!^#)(?<!{_SENTENCE_END}{_GAP}#)(?<!{_SENTENCE_END}{_GAP}{_GAP}#){_TAG[1:]}){_GAP}+(?={_WORD})",
        r"\1",
    ),
)
"""The same in dialogues: where a turn without a colon may begin, what may be a word is not taken for a particle."""
