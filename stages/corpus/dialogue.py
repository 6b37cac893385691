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
