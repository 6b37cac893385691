"""Speaker tags that are written otherwise become `#PersonN#`, and those that begin a turn `#PersonN#: ` on a line.

Only what is surely a tag is mended, so that nobody's turn is cut in two: `check` tells of the rest, by row.
"""

from __future__ import annotations

import re
import unicodedata
from functools import cache

from stages.cleaning.rule import Rule, step
from stages.corpus.dialogue import (
    COLON_LOOKALIKES,
    COLONS,
    COUNTED,
    ONE_SLIP_TAG,
    PARTICLES,
    PERSON,
    SERIAL,
    SPEAKER,
    WORDS_LIKE_PARTICLES,
)

_TAG = SPEAKER.pattern
_GAP = r"[^\S\n]"  # white space within a line
_PARTICLE, _WORD = (rf"(?:{each})(?![가-힣])" for each in (PARTICLES, WORDS_LIKE_PARTICLES))
_JOINT = rf"(?:{_GAP}|[_-])?"
_SIGN = "[#＃﹟♯]"
_N = r"(\d{1,2})(?!\d)"
_HTML = "</?[A-Za-z]{1,6}>"
_AROUND = (
    rf"""(?:{_HTML}|[\[({{（［【〈《「『<*_~|"'`“‘\\]){{1,4}}""",
    rf"""(?:{_HTML}|[\])}}）］】〉》」』>*_~|"'`”’\\]){{1,4}}""",
)
_OPENING, _CLOSING = r"\[(<【「*_", r"\])>】」*_"
_QUOTES = "\"'`“”‘’\\\\"
_BULLET = rf"(?:[-•·▶►>{_OPENING}]|{_GAP}|\d{{1,2}}[.)])*"
_SENTENCE_END = r"""[.!?…~。！？"'”’)\]]"""

ODD = re.compile(
    rf"(?:{PERSON.partition(']')[0]}]|사)(?:(?<!#[P사])|(?!(?:erson|람)\d+#))(?:(?<=사)람|(?<!사){PERSON.partition(']')[2]})(?:{_GAP}|[_#＃-])*\d"
)
"""Found in every text that has a name without its signs, or with others: in others there is nothing to mend."""


# A modifier in front shows that 사람 is a word: 그 사람 1은, 아는 사람 1은.
_NO_MODIFIER = (
    r"""(?:(?<![^\n])|(?<=[.,!?…~"'“‘(:;·/&])|(?<=[.,!?…~"'”’):;·/&]\s)|(?<=및\s)|(?<=\d[과와랑])|(?<=#[과와랑])"""
    r"|(?<=[과와랑고서게에로를지]\s)|(?<=[\d#][은는이가을의도]\s))"
)
_NO_ADDRESS = rf"(?:(?<![#A-Za-z0-9_/=&@-])|(?<=n\d#)(?!{PERSON}\d+#)|(?<=n\d[/-]))(?<![A-Za-z]\.)"
_NO_ADDRESS += rf"(?!(?<=[A-Za-z]\s){PERSON}{_JOINT}\d+{_GAP}*[{COLONS}])"  # TED Person1: ...


@cache
def _names(highest: int, but: str) -> tuple[Rule, ...]:
    """Names without signs up to a number, but for those behind which `but` stands."""
    if not highest:
        return ()
    number = rf"({'|'.join(map(str, range(highest, 0, -1)))})(?!\d)"
    particle = rf"(?=(?:{PARTICLES})(?![가-힣]))"
    end = (
        rf"(?!@|\.[A-Za-z]|[_=]|[/-](?![가-힣\s]|{PERSON})|{_GAP}?(?:{SERIAL}|가지))"
        rf"(?![A-Za-z%]|[.,]\d{but})"
    )
    patterns = (
        f"{_NO_ADDRESS}{PERSON}[_-]?{number}{end}",
        rf"{_NO_ADDRESS}Person{_GAP}{number}{end}(?!{_GAP}?[A-Za-z]|[가-힣])",
        rf"{_NO_ADDRESS}{PERSON}{_GAP}{number}{particle}",
        rf"{_NO_MODIFIER}사람{number}(?!도)(?:{particle}|(?=만(?!{_GAP}?명|[가-힣])))",
        rf"{_NO_MODIFIER}사람{_GAP}{number}(?!도){particle}",
    )
    return tuple(step("bare_tag", pattern, r"#Person\1#") for pattern in patterns)


def _inline_head(before: str, names: str) -> Rule:
    """A name without signs and a colon, within a line behind `before`."""
    name = rf"[{_OPENING}]*(?:{names}){_JOINT}{_N}[{_CLOSING}]*"
    return step("bare_tag", rf"(?<={before}){_GAP}+{name}{_GAP}*[{COLONS}](?!\d)", r"\n#Person\1#:")


_NAME = rf"(?:{PERSON}|사람){_JOINT}\d{{1,2}}(?!\d)"
SIGNED = (
    step(
        "bare_tag",
        rf"\\{_SIGN}{_NAME}\\{_SIGN}"
        rf"|{_SIGN}{_GAP}*{_NAME}{_GAP}*{_SIGN}"
        rf"|{_SIGN}(?!사람{_JOINT}\d+{_GAP}?(?:{COUNTED})){_NAME}(?![A-Za-z])"
        rf"|(?<![A-Za-z0-9가-힣]){_NAME}{_GAP}?{_SIGN}"
        rf"|{_SIGN}?(?<![A-Za-z0-9가-힣])(?:{PERSON}{_GAP}?|사람){_SIGN}\d{{1,2}}(?!\d)",
        lambda match: f"#Person{''.join(filter(str.isdecimal, match.group()))}#",
    ),
)
"""Names with at least one sign, looked for between the tags and masks of a text."""
SLIPS = (step("bare_tag", rf"{ONE_SLIP_TAG}(?={_GAP}*[{COLONS}])", r"#Person\g<number>#"),)
"""Tags with a slip in their name, sure where a colon follows."""
MOST = 30
"""Numbers above it are no speaker's, where a name has no signs."""


def names(highest: int) -> tuple[Rule, ...]:
    """Names without signs, anywhere in a summary whose dialogue has speakers up to a number."""
    return _names(min(highest, MOST), "")


def names_in_turns(dialogue: str) -> tuple[Rule, ...]:
    """The same within a dialogue's turns: with a colon behind it, a name may begin another."""
    return _names(min(highest_speaker(dialogue), MOST), rf"|{_GAP}*[{COLONS}]")


def highest_speaker(dialogue: str) -> int:
    """The highest number of those who speak in a dialogue, or 2, since somebody listens."""
    return max([2, *map(int, HEAD.findall(dialogue))])


DIGITS = (step("tag_alias", r"(?<=#Person)[０-９]+(?=#)", lambda match: unicodedata.normalize("NFKC", match.group())),)

HEADS = (
    step(
        "bare_tag",
        rf"(?m)^{_BULLET}(?:{PERSON}|사람)(?:{_GAP}|[_-])*(\d+){_GAP}*[{_CLOSING}]*{_GAP}*[{COLONS}]",
        r"#Person\1#:",
    ),
)
"""A name without signs and a colon, at the start of a line."""
INLINE_HEADS = (_inline_head(r"[^\sA-Za-z0-9]", PERSON),)
"""The same within a line: sure where some line begins with a tag, and no other name precedes (TED Person1: ...)."""
AFTER_SENTENCE = (_inline_head(_SENTENCE_END, f"{PERSON}|사람"),)
"""The same behind the end of a sentence, which is sure everywhere."""
HEAD = re.compile(rf"(?m)^{_GAP}*#Person(\d+)#{_GAP}*[{COLONS}]")

ESCAPE = (step("tag_decoration", rf"\\+(?={_TAG})", ""),)
"""Markdown's backslash before a tag."""
COLON = (
    step("tag_colon", rf"({_TAG})\s*[{COLON_LOOKALIKES}]+:*", r"\1:"),
    step("tag_colon", rf"({_TAG})(?:{_GAP}+:+|\s+:+(?=\s|\w|$)|::+)", r"\1:"),
    step("tag_colon", rf"({_TAG}){_GAP}*[-.,~!?·…=–—]{{1,3}}{_GAP}*:(?=\s|\w|$)", r"\1:"),
    step("tag_colon", rf"(?m)^({_GAP}*{_TAG}){_GAP}*(?:[;；]|[-–—|>=→]+(?={_GAP}))", r"\1:"),
    step(
        "tag_colon",
        rf"({_TAG}){_GAP}*([(\[（][^()\[\]（）#\n]{{1,30}}[)\]）]){_GAP}*[:{COLON_LOOKALIKES}]+",
        r"\1: \2",
    ),
    step("tag_colon", rf"({_SENTENCE_END}{_GAP}*{_TAG}){_GAP}*[;；]", r"\1:"),
)
DECORATION = (
    step(
        "tag_decoration",
        rf"{_AROUND[0]}{_GAP}?({_TAG}){_GAP}?{_AROUND[1]}{_GAP}*[:{COLON_LOOKALIKES}]+[*_]*",
        r"\1:",
    ),
    step("tag_decoration", rf"{_AROUND[0]}({_TAG}){_GAP}*:(?:{_HTML}|[\])}}）］】」』>*_~]){{1,4}}", r"\1:"),
    step("tag_decoration", rf"(?m)^{_GAP}*[-*•·▶►>]+(?:[-*•·▶►>]|{_GAP})*(?={_TAG}[*_]*{_GAP}*:)", ""),
    step("tag_decoration", rf"(?m)^{_BULLET}[{_OPENING}]+({_TAG})[{_CLOSING}]++(?!{_PARTICLE}){_GAP}*:?[*_]*", r"\1:"),
    step("tag_decoration", rf"(?m)^({_TAG})[*_]+{_GAP}*:", r"\1:"),
    step("tag_decoration", rf"(?m)^{_GAP}*[{_QUOTES}]+({_TAG})[{_QUOTES}]+{_GAP}*:", r"\1:"),
    step("tag_decoration", rf"(?m)^({_TAG}:)[*_]+", r"\1"),
)
"""Bullets, numbers, brackets, quotation marks and Markdown around a tag that begins a turn."""
NUMBERED = (step("tag_decoration", rf"(?m)^{_GAP}*(?:\d{{1,2}}[.)]{_GAP}*)+(?={_TAG}{_GAP}*:)", ""),)
"""Numbers of turns."""
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
