from __future__ import annotations

import random
from typing import Any

import pytest

from stages.core.errors import UserError
from stages.core.params import Params, load_params
from stages.retraining.fit_reranker import fit_reranker
from stages.scoring.candidates import Candidate, CandidateRow
from tests.tiny_project import ROOT

WORDS = ("역에서", "집에서", "학교에서", "시장에서", "둘이", "내일", "오늘", "밤에")


def params(**reward: float) -> Params:
    values = load_params(ROOT / "params.yaml")
    nothing = dict.fromkeys(type(values.reward).model_fields, 0.0)
    return values.model_copy(update={"reward": values.reward.model_copy(update=nothing | reward)})


def rows(worth: Any, folds: int = 3, of_each: int = 8) -> list[CandidateRow]:
    """Rows of several folds and of dev; `worth` scores a candidate by its likelihood and text."""
    draw = random.Random(0)
    made = []
    for number in range((folds + 1) * of_each):
        candidates = []
        for place in range(5):
            text = " ".join(["#Person1#은", *draw.sample(WORDS, draw.randint(1, 6)), "갑니다."])
            likelihood = draw.uniform(-2, 0)
            score = worth(likelihood, text)
            candidates.append(Candidate(text, likelihood, place > 0, {"morpheme": score, "clipped": score}, 1.0, []))
        fold = number % (folds + 1)
        is_dev = fold == folds
        made.append(
            CandidateRow("dev" if is_dev else "train", f"row_{number}", "" if is_dev else str(fold), candidates)
        )
    return made


def test_what_likelihood_tells_is_learned_and_told_by_rows_of_other_folds() -> None:
    found = fit_reranker(rows(lambda likelihood, text: 50 + 10 * likelihood), params())
    assert found["weights"]["likelihood"] == pytest.approx(10, rel=0.01)
    assert all(abs(weight) < 0.1 for name, weight in found["weights"].items() if name != "likelihood")
    for name, count in (("cross_validated", 24), ("dev", 8)):
        told = found[name]
        assert told["rows"] == count
        assert told["learned"]["final"] == told["best"]["final"] > told["search"]["final"]
        assert told["learned"].keys() == {"final", "length_ratio", "repeats", "invented", "swapped_speakers"}
    assert fit_reranker(rows(lambda likelihood, text: 50 + 10 * likelihood), params()) == found


def test_length_is_learned_beside_the_other_candidates() -> None:
    found = fit_reranker(rows(lambda likelihood, text: 60.0 - len(text)), params())
    assert found["weights"]["length"] < 0
    assert found["cross_validated"]["learned"]["final"] == found["cross_validated"]["best"]["final"]
    assert found["weights"]["repeats"] == 0.0, "it differs in no row"


def test_rows_of_one_fold_cannot_be_told_from_others() -> None:
    with pytest.raises(UserError, match=r"^data/candidates.jsonl: fewer than two folds have rows with candidates"):
        fit_reranker(rows(lambda likelihood, text: 1.0, folds=1), params())
