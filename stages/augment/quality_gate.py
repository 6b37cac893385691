"""What a generated row has to keep: language, length, speakers, masks, and a summary true to its dialogue.

Each function raises `Rejected` with a short reason, by which rejected rows are counted.
"""

from __future__ import annotations

from stages.core.params import Quality
from stages.corpus.dialogue import speakers
from stages.corpus.hangul import hangul_share
from stages.corpus.invented_facts import invented, masks, silent_speakers


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
    """Look in the dialogue for all that can be compared of the summary: speakers, masks, numbers, Latin words."""
    if silent_speakers(summary, dialogue):
        raise Rejected("summary names somebody who does not speak")
    kinds = {fact.kind for fact in invented(summary, dialogue)}
    for kind in ("mask", "number", "name"):
        if kind in kinds:
            raise Rejected(f"summary has a {kind} that the dialogue has not")
