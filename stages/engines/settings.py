"""How a summary is searched for: which settings mean something, what a search over them tries, and what they allow.

`DecodingSettings` is declared in stages/core/params.py, with what params.yaml may say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

from stages.core.errors import UserError
from stages.core.params import SEARCHED, SEARCHED_AS, Decoding
from stages.core.params import DecodingSettings as DecodingSettings  # what the engines import from here

NEEDS = {"length_penalty": "num_beams", "stop_at_sentence": "max_length"}
"""Settings that mean nothing while another one does nothing."""

_SENTENCE_END = re.compile(r"\w[.!?]+[\"'”’)]*\s*$")


def fixed_settings(decoding: Decoding) -> DecodingSettings:
    """The settings that params.yaml gives, without a search."""
    return DecodingSettings(decoding.max_new_tokens, **{name: getattr(decoding, name) for name in SEARCHED})


def candidates(decoding: Decoding) -> list[DecodingSettings]:
    """All combinations that a search tries, each once; what means nothing in one of them stays as params.yaml has it.

    Raises:
        UserError: the shortest length is above the longest one in all of them.
    """
    fixed = fixed_settings(decoding)
    lists = [getattr(decoding, f"{SEARCHED_AS}{name}") for name in SEARCHED]
    tried = [replace(fixed, **dict(zip(SEARCHED, values, strict=True))) for values in product(*lists)]
    possible = [
        replace(settings, **{name: getattr(fixed, name) for name in SEARCHED.keys() - meaning(settings).keys()})
        for settings in tried
        if settings.max_length == 0 or settings.min_length <= settings.max_length
    ]
    if not possible:
        raise UserError("params.yaml: decoding.tune_min_length: each is above every tune_max_length; nothing to try")
    return list(dict.fromkeys(possible))


def meaning(settings: DecodingSettings) -> dict[str, Any]:
    """The searched settings that mean something beside the others, by name.

    >>> meaning(DecodingSettings(96, num_beams=1, length_penalty=0.7, max_length=0.3))
    {'num_beams': 1, 'repetition_penalty': 1.0, 'min_length': 0.0, 'max_length': 0.3, 'stop_at_sentence': False}
    """
    values = {name: getattr(settings, name) for name in SEARCHED}
    idle = {name for name, value in values.items() if value == SEARCHED[name]}
    return {name: value for name, value in values.items() if NEEDS.get(name) not in idle}


def active(settings: DecodingSettings) -> dict[str, Any]:
    """The searched settings that do something: those an engine has to obey, or refuse.

    >>> active(DecodingSettings(96, num_beams=4, stop_at_sentence=True))
    {'num_beams': 4}
    """
    return {name: value for name, value in meaning(settings).items() if value != SEARCHED[name]}


@dataclass(frozen=True)
class Ending:
    """When one summary may end and when it has to, in tokens."""

    stop_id: int
    least: int
    most: int
    limit: int
    decode: Callable[[Sequence[int]], str] | None = None
    """Turns ids into text: given, a summary that has reached `most` goes on to the end of its sentence."""

    def has_to_stop(self, ids: Sequence[int]) -> bool:
        return len(ids) >= self.most and (self.decode is None or ends_sentence(self.decode(ids[-8:])))

    def options(self, ids: Sequence[int], proposed: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
        """What may follow `ids`, out of what the model proposes as (score, id), best first."""
        if self.has_to_stop(ids):
            return [(0.0, self.stop_id)]
        if len(ids) < self.least:
            return [option for option in proposed if option[1] != self.stop_id]
        return list(proposed)


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
