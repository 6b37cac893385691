"""What a generated row has to keep: language, length, speakers, masks, and a summary true to its dialogue.

Each function raises `Rejected` with a short reason, by which rejected rows are counted.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter

from stages.core.params import Quality
from stages.corpus.dialogue import MASK_OR_SPEAKER, SPEAKER, speakers
from stages.corpus.hangul import hangul_share

_NUMBER = re.compile(r"\d{1,3}(?:,\d{3})+|\d+")
_LATIN = re.compile(r"[A-Za-z\u00c0-\u024f]+")


class Rejected(Exception):
    """Why a generated row is not used: a short phrase that groups rows of one fault."""


def require_korean(dialogue: str, summary: str, settings: Quality) -> None:
    if min(hangul_share(dialogue), hangul_share(summary)) < settings.min_korean_share:
        raise Rejected("not Korean")


def require_length(what: str, length: int, asked: int, settings: Quality) -> None:
    """Compare a length, in characters or turns, with the one asked for."""
    if not settings.min_length_ratio * asked <= length <= settings.max_length_ratio * asked:
        raise Rejected(f"{what} too short or too long")


def require_kept(dialogue: str, summary: str, origin_dialogue: str, origin_summary: str) -> None:
    """Compare the speakers and the masks of a rewritten pair with those of its origin."""
    if set(speakers(dialogue)) != set(speakers(origin_dialogue)):
        raise Rejected("other speakers")
    if masks(dialogue) != masks(origin_dialogue) or masks(summary) != masks(origin_summary):
        raise Rejected("other masks")


def require_faithful(dialogue: str, summary: str) -> None:
    """Look in the dialogue for all that can be compared of the summary: speakers, masks, numbers, Latin words.

    Numbers are compared in digits only: 세 시 beside 3시 is no contradiction that this could see, and a summary
    that says 3시 where the dialogue says 세 시 is rejected. Of the sample's 176 reference summaries, all pass.
    """
    if not set(SPEAKER.findall(summary)) <= set(speakers(dialogue)):
        raise Rejected("summary names somebody who does not speak")
    if not masks(summary).keys() <= masks(dialogue).keys():
        raise Rejected("summary has a mask that the dialogue has not")
    if not _found(_NUMBER, summary) <= _found(_NUMBER, dialogue):
        raise Rejected("summary has a number that the dialogue has not")
    if not _found(_LATIN, summary) <= _found(_LATIN, dialogue):
        raise Rejected("summary has a name that the dialogue has not")


def masks(text: str) -> Counter[str]:
    """How often each mask occurs in a text; speaker tags are none."""
    return Counter(tag for tag in MASK_OR_SPEAKER.findall(text) if not SPEAKER.fullmatch(tag))


def _found(pattern: re.Pattern[str], text: str) -> set[str]:
    """The numbers or words of a text outside tags and masks; 12,000 is 12000, and case does not matter."""
    words = MASK_OR_SPEAKER.sub(" ", unicodedata.normalize("NFKC", text))
    return {found.replace(",", "").casefold() for found in pattern.findall(words)}
