"""How a summary is searched for: the settings of one search, and what they allow at each step."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from stages.core.params import Decoding

_SENTENCE_END = re.compile(r"\w[.!?]+[\"'”’)]*\s*$")


@dataclass(frozen=True)
class DecodingSettings:
    """One way to search. Lengths are shares of the dialogue's tokens; 0 sets no limit.

    With `stop_at_sentence` a summary that has reached `max_length` goes on to the end of its sentence; without, it
    ends there. `max_new_tokens` ends every summary.
    """

    max_new_tokens: int
    num_beams: int = 1
    length_penalty: float = 1.0
    repetition_penalty: float = 1.0
    min_length: float = 0.0
    max_length: float = 0.0
    stop_at_sentence: bool = False


def fixed_settings(decoding: Decoding) -> DecodingSettings:
    """The settings that params.yaml gives, without a search."""
    return DecodingSettings(
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        length_penalty=decoding.length_penalty,
        repetition_penalty=decoding.repetition_penalty,
        min_length=decoding.min_length,
        max_length=decoding.max_length,
        stop_at_sentence=decoding.stop_at_sentence,
    )


@dataclass(frozen=True)
class Ending:
    """When one summary may end and when it has to, in tokens."""

    stop_id: int
    least: int
    most: int
    limit: int
    decode: Callable[[Sequence[int]], str] | None = None
    """Turns ids into text: given, a summary that has reached `most` goes on to the end of its sentence."""

    def options(self, ids: Sequence[int], found: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
        """What may follow `ids`, out of what the model proposes as (score, id), best first."""
        if len(ids) >= self.most and (self.decode is None or ends_sentence(self.decode(ids[-8:]))):
            return [(0.0, self.stop_id)]
        if len(ids) < self.least:
            return [option for option in found if option[1] != self.stop_id]
        return list(found)


def ending(
    settings: DecodingSettings, stop_id: int, dialogue_tokens: int, decode: Callable[[Sequence[int]], str]
) -> Ending:
    """The limits that the settings set for a dialogue of this many tokens."""
    limit = settings.max_new_tokens
    most = round(settings.max_length * dialogue_tokens) or limit
    return Ending(
        stop_id=stop_id,
        # One token is left for the stop token.
        least=min(round(settings.min_length * dialogue_tokens), limit - 1),
        most=max(1, most),
        limit=limit,
        decode=decode if settings.stop_at_sentence else None,
    )


def ends_sentence(text: str) -> bool:
    """Whether a text stops where a sentence does.

    >>> ends_sentence("만나기로 합니다."), ends_sentence("만나기로 합니다"), ends_sentence("3.")
    (True, False, False)
    """
    return bool(_SENTENCE_END.search(text)) and not re.search(r"\d\.\s*$", text)
