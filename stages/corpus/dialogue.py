"""A dialogue is lines `#PersonN#: utterance`; masks such as `#PhoneNumber#` are tokens of the text."""

from __future__ import annotations

import re
from dataclasses import dataclass

MASKS = (
    "PhoneNumber",
    "Address",
    "DateOfBirth",
    "PassportNumber",
    "SSN",
    "CardNumber",
    "CarNumber",
    "Email",
    "Name",
    "PersonName",
    "Price",
    "FlightNumber",
    "Amount",
)
"""The masks that occur in the competition's data."""

SPEAKER = re.compile(r"#Person\d+#")
MASK_OR_SPEAKER = re.compile(rf"#(?:Person\d+|{'|'.join(MASKS)})#")

# With the letters of Cyrillic and Greek that look the same.
_LETTERS = (
    r"[PpＰｐ\u0420\u0440\u03a1\u03c1]",
    r"[EeＥｅ\u0415\u0435\u0395\u03b5]",
    "[RrＲｒ]",
    r"[SsＳｓ\u0405\u0455]",
    r"[OoＯｏ\u041e\u043e\u039f\u03bf]",
    r"[NnＮｎ\u039d]",
)
PERSON = "".join(_LETTERS)
"""The name in a speaker tag, however it is written; 사람 stands for it too."""
PARTICLES = "은|는|이|가|을|를|과|와|의|도|에|로|으로|에게|에게서|에게는|에게도|한테|께|께서|까지|부터|처럼|랑|이랑"
"""What may follow a speaker's tag in a sentence, where no more Hangul follows."""
COUNTED = r"명|인|가지|분|이서|중|천|만(?=\s?명|[가-힣])|백|여|개|배|살|세|년|번|층|차|팀|조|호|쪽|당|%"
"""What shows that a number behind 사람 counts: 사람 2명 are two people; 사람2만 is Person 2 alone."""
SERIAL = "(?:호|번|명|개|층)"
"""What shows that a number behind Person is no speaker's: Person1호선."""
WORDS_LIKE_PARTICLES = "이|가|와|과|은|도"
"""The particles that begin an utterance as often, being words too: 이 책, 가 봐, 와!"""
COLON_LOOKALIKES = "：﹕∶︓ː꞉˸׃։⁚"
COLONS = f":{COLON_LOOKALIKES};；"
"""The signs behind a tag that begin a turn where people write dialogues, semicolons by a slip."""


def _one_slip() -> str:
    """Person with a letter too few, too many or wrong, or two of them swapped."""
    ends = [(_LETTERS[:i], _LETTERS[i:]) for i in range(len(_LETTERS) + 1)]
    other = r"[^\W\d_]"
    slips = [
        *((*head, other, *tail) for head, tail in ends),
        *((*head, *tail[1:]) for head, tail in ends[:-1]),
        *((*head, other, *tail[1:]) for head, tail in ends[:-1]),
        *((*head, tail[1], tail[0], *tail[2:]) for head, tail in ends[:-2]),
        (*_LETTERS[:4], "0", *_LETTERS[5:]),
    ]
    return "|".join(map("".join, slips))


_LIKE_PERSON = (
    rf"{_LETTERS[0]}[{''.join(letters[1:-1] for letters in _LETTERS)}am]{{,7}}"
    r"|[퍼펄페패파][르스]?[슨선손쓴슬순]?|피|화자|발화자|인물|(?i:speaker)"
)
ONE_SLIP = _one_slip()
_NO_TOKEN = rf"(?!(?:Person\d+|{'|'.join(MASKS)})#)"
ONE_SLIP_TAG = rf"#{_NO_TOKEN}(?!{PERSON}[ _-]?\d)(?:{ONE_SLIP})[ _-]?(?P<number>\d{{1,2}})#{_NO_TOKEN}"
"""A tag with one slip of the pen in its name."""
LIKE_TAG = rf"#{_NO_TOKEN}(?!{PERSON}[ _-]?\d)(?:{ONE_SLIP}|{_LIKE_PERSON})[ _-]?\d{{1,2}}#{_NO_TOKEN}"
"""What is like a tag, with both signs, so that it may be somebody's."""

MAY_BEGIN_TURN = re.compile(
    rf"(?:{PERSON}|사람)[\s_#-]*\d+\s*"
    rf"(?:[^\w\s{COLONS}]|</\w{{1,6}}>|[(\[（][^()\[\]\n]{{1,30}}[)\]）]){{,4}}\s*[{COLONS}]"
    rf"|{ONE_SLIP_TAG}\s*[{COLONS}]"
    rf"|^\W*(?:{PERSON}|사람)[\s_-]*\d+(?!\d)[^\w\n]*(?:\s|$)",
    re.MULTILINE,
)
"""Found in every dialogue of which cleaning can make turns, and in few others."""

_TURN_START = re.compile(r"^(#Person\d+#):[ \t]*", re.MULTILINE)


@dataclass(frozen=True)
class Turn:
    """What one speaker says before another does: the speaker's tag and the text, which may hold newlines."""

    speaker: str
    text: str


def parse_turns(dialogue: str) -> list[Turn]:
    """Split a dialogue into its turns; text before the first speaker tag is no turn."""
    parts = _TURN_START.split(dialogue)[1:]
    return [Turn(tag, text.strip()) for tag, text in zip(parts[::2], parts[1::2], strict=True)]


def render_turns(turns: list[Turn]) -> str:
    """Write turns as a dialogue: the inverse of `parse_turns`."""
    return "\n".join(f"{turn.speaker}: {turn.text}" for turn in turns)


def speakers(dialogue: str) -> list[str]:
    """The tags of those who speak, in the order in which they first do."""
    return list(dict.fromkeys(turn.speaker for turn in parse_turns(dialogue)))
