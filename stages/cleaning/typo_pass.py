"""Typos are corrected utterance by utterance, in texts that the rules have cleaned and still would not change."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from functools import cache

from stages.cleaning.spelling import correct
from stages.corpus.dialogue import SPEAKER

_HEAD_OR_NEWLINE = re.compile(rf"(^{SPEAKER.pattern}: ?|\n)", re.MULTILINE)
ROUNDS = 3
"""Rules and corrections take turns so often at most; a text that they still disagree on keeps its typos."""
REMEMBERED = 50_000
"""Utterances whose corrections a process remembers."""

Correction = tuple[str, int]
"""A corrected text, and how many corrections were made in it."""


def fix_typos(texts: Sequence[str], threshold: float, clean: Callable[[str], str]) -> list[Correction]:
    """Correct clean texts so that neither `clean` nor another correction would change the result.

    Args:
        texts: dialogues or summaries as `clean` leaves them.
        threshold: the least confidence of a correction.
        clean: applies the rules.
    """
    results: list[Correction] = [(text, 0) for text in texts]
    unsettled = list(range(len(texts)))
    for _ in range(ROUNDS):
        corrections = _correct([results[i][0] for i in unsettled], threshold)
        agreed = {i: clean(text) == text for i, (text, _) in zip(unsettled, corrections, strict=True)}
        for i, (text, count) in zip(unsettled, corrections, strict=True):
            results[i] = (clean(text), results[i][1] + count)
        unsettled = [i for i in unsettled if not agreed[i]]
    for i in unsettled:
        results[i] = (texts[i], 0)
    return results


def _correct(texts: Sequence[str], threshold: float) -> list[Correction]:
    parts = [_HEAD_OR_NEWLINE.split(text) for text in texts]
    known = _known(threshold)
    if len(known) > REMEMBERED:
        known.clear()
    new = list(dict.fromkeys(part for split in parts for part in split[::2] if part not in known))
    known.update(zip(new, correct(new, threshold), strict=True))
    results = []
    for split in parts:
        corrected = [known[part] for part in split[::2]]
        split[::2] = [text for text, _ in corrected]
        results.append(("".join(split), sum(count for _, count in corrected)))
    return results


@cache
def _known(threshold: float) -> dict[str, Correction]:
    """What this process has corrected with a threshold."""
    return {}
