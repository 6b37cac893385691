"""What each postprocessing rule does to the score."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache
from statistics import fmean
from typing import Any

from stages.decoding.postprocess import process
from stages.decoding.predict import Prediction
from stages.scoring.objective import Objective

REGENERATED = "regenerated"


def rule_effects(
    answers: Sequence[Prediction], references: Sequence[Sequence[str]], names: Sequence[str], objective: Objective
) -> dict[str, Any]:
    """The score by the objective without any rule, with all of them, and with all but one.

    Returns:
        `raw`, `processed` and for each of the rules, writing again included, `changed` rows and the score `without`
        the rule.
    """
    scored = _scorer(references, objective)
    rows = [answer["text"] for answer in answers]
    firsts = [answer["first"] for answer in answers]
    processed = [process(text, names) for text in rows]
    effects: dict[str, Any] = {
        "samples": len(answers),
        "raw": scored([process(text, ()) for text in firsts]),
        "processed": scored(processed),
        "rules": {},
    }
    variants = {name: [process(text, [other for other in names if other != name]) for text in rows] for name in names}
    variants[REGENERATED] = [process(text, names) for text in firsts]
    for name, texts in variants.items():
        changed = sum(a != b for a, b in zip(texts, processed, strict=True))
        effects["rules"][name] = {"changed": changed, "without": scored(texts)}
    return effects


def _scorer(references: Sequence[Sequence[str]], objective: Objective) -> Callable[[list[str]], float]:
    @cache
    def score(texts: tuple[str, ...]) -> float:
        return round(fmean(objective.rows(texts, references)), 4)

    return lambda texts: score(tuple(texts))
