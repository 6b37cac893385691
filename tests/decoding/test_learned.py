from __future__ import annotations

import math

import pytest

from stages.core.errors import UserError
from stages.decoding.learned import FEATURES, Reranker, features

TEXTS = ["둘은 역에서 만납니다.", "둘은 역에서 만나고, 둘은 역에서 만나고 웃습니다.", "", "네."]
LIKELIHOODS = [-0.5, -0.2, -0.1, -0.3]
AGREEMENT = [30.0, 40.0, 0.0, 10.0]


def weights(**given: float) -> dict[str, float]:
    return dict.fromkeys(FEATURES, 0.0) | given


def test_what_a_candidate_is_weighed_by() -> None:
    found = features(TEXTS, LIKELIHOODS, AGREEMENT)
    middle = (12 + 2) / 2
    assert [row[:2] for row in found] == [[-0.5, 30.0], [-0.2, 40.0], [-0.1, 0.0], [-0.3, 10.0]]
    assert [row[2] for row in found] == pytest.approx([math.log(each / middle) for each in (12, 28, 1, 2)])
    assert [row[3] for row in found] == [abs(row[2]) for row in found]
    assert [row[4] for row in found] == [0.0, 1.0, 0.0, 0.0]


@pytest.mark.parametrize(
    ("given", "best"),
    [
        ({"likelihood": 1.0}, 1),  # the empty one is likelier
        ({"agreement": 1.0}, 1),
        ({"agreement": 1.0, "repeats": -15.0}, 0),
        ({"length": -1.0}, 3),
        ({"odd_length": -1.0}, 0),
        ({}, 0),  # of equals the first
    ],
)
def test_the_choice_on_a_known_case(given: dict[str, float], best: int) -> None:
    assert Reranker(weights(**given)).best(TEXTS, LIKELIHOODS, AGREEMENT) == best


def test_of_empty_candidates_alone_the_best_is_taken() -> None:
    assert Reranker(weights(likelihood=1.0)).best(["", ""], [-1.0, -0.5], [0.0, 0.0]) == 1


def test_without_weights_it_says_what_to_run() -> None:
    with pytest.raises(UserError, match=r"^metrics/eval/decoding.json: holds no reranker; run `dvc repro tune_deco"):
        Reranker.of({"objective": "balanced", "chosen": {}})
