from __future__ import annotations

import unicodedata
from typing import get_args

import pytest

from stages.core.params import Evaluate, load_params
from stages.scoring.morphemes import kiwi_morphemes, words
from stages.scoring.objective import OBJECTIVES, Objective
from stages.scoring.rouge import Scorer, clipped, published

ONCE = "둘은 역에서 만나기로 합니다."
TWICE = "둘은 역에서 만나기로 하고 둘은 역에서 만나기로 합니다."


def test_every_objective_can_be_chosen() -> None:
    assert get_args(Evaluate.model_fields["objective"].annotation) == tuple(OBJECTIVES)
    assert load_params().evaluate.objective == "balanced"


def test_balanced_is_the_mean_of_published_and_clipped() -> None:
    rows = [[ONCE, "둘은 만납니다."], [TWICE]]
    scorer = Scorer(kiwi_morphemes)
    first, second = ([row.final for row in scorer.rows([TWICE, ONCE], rows, pair)] for pair in (published, clipped))
    assert Objective("published").rows([TWICE, ONCE], rows) == first
    means = [(a + b) / 2 for a, b in zip(first, second, strict=True)]
    assert Objective("balanced").rows([TWICE, ONCE], rows) == pytest.approx(means)


def test_saying_things_twice_costs_more_when_balanced() -> None:
    lost = {name: 100 - Objective(name).rows([TWICE], [[ONCE]])[0] for name in OBJECTIVES}
    assert lost["balanced"] > 2 * lost["published"]


def test_the_analyser_is_the_one_that_scores() -> None:
    by_word = Objective("published", words).rows(["둘은 만난다"], [["둘이 만난다"]])
    assert by_word == [pytest.approx((50 + 0 + 50) / 3)]
    kiwi = Objective.of(load_params().evaluate.model_copy(update={"morphemes": "kiwi"}))
    assert kiwi.rows(["둘은 만난다"], [["둘이 만난다"]]) == Objective("balanced").rows(
        ["둘은 만난다"], [["둘이 만난다"]]
    )


def test_utilities_are_mean_scores_against_the_others() -> None:
    candidates = ["그는 학교에 갔다.", "그는 학교에 갔다.", "그는 집에 왔다."]
    for name in OBJECTIVES:
        objective = Objective(name)
        (against,) = objective.rows([candidates[0]], [[candidates[2]]])
        assert objective.utilities(candidates) == pytest.approx([(100 + against) / 2, (100 + against) / 2, against])
    assert objective.utilities(["하나."]) == [0]
    assert objective.utilities([]) == []
    assert Objective("published", words).utilities(["", "가", "가"])[0] == 0
    pieces = [ONCE, unicodedata.normalize("NFD", ONCE)]
    assert objective.utilities(pieces) == pytest.approx([100, 100])
