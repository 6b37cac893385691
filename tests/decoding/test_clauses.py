from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.decoding import clauses
from stages.decoding.clauses import without_repeated_clauses
from stages.decoding.postprocess import sentences

WORDS = "#Person1#은 #Person2#는 커피를 표를 역에서 마시고, 마십니다. 예매하며 예매합니다. 만나서 없다고 ?"


def dropped(text: str) -> str:
    return " ".join(without_repeated_clauses(sentences(text)))


def test_examples() -> None:
    assert doctest.testmod(clauses).failed == 0


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#Person1#은 표를 예매하고 표를 예매하고 표를 예매합니다.", "#Person1#은 표를 예매합니다."),
        ("둘은 역에서 만나기로 하고, 역에서 만나기로 합니다.", "둘은 역에서 만나기로 합니다."),
        ("#Person1#은 약을 먹어서 약을 먹습니다.", "#Person1#은 약을 먹습니다."),
        # The form of a predicate may change, and its sentence goes on with the clause before.
        (
            "#Person2#는 #Person1#에게 전화를 걸고, #Person2#는 #Person1#에게 전화를 겁니다!",
            "#Person2#는 #Person1#에게 전화를 겁니다!",
        ),
        (
            "#Person1#은 표를 예매하고, #Person2#는 차를 고르고, #Person1#은 표를 예매합니다.",
            "#Person1#은 표를 예매하고, #Person2#는 차를 고릅니다.",
        ),
        (
            "#Person1#은 표를 예매했습니다. #Person2#는 차를 마셨고, #Person1#은 표를 예매했습니다.",
            "#Person1#은 표를 예매했습니다. #Person2#는 차를 마셨습니다.",
        ),
    ],
)
def test_a_clause_that_only_repeats_goes(text: str, expected: str) -> None:
    assert dropped(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "#Person1#은 표를 예매하고, #Person2#는 표를 예매합니다.",
        "#Person1#은 친구를 만나고, 친구를 만듭니다.",
        # Somebody else does it: the clause between has another subject.
        "#Person1#은 커피를 마시고, #Person2#는 차를 고르고, 커피를 마십니다.",
        "#Person1#은 매장에 재고가 없고 재고가 없다고 합니다.",
        "#Person1#은 광고를 보고 창고에 갑니다.",
        "가고, 가고, 갑니다.",
        "",
    ],
)
def test_all_else_stays(text: str) -> None:
    assert dropped(text) == text


@given(st.lists(st.sampled_from(WORDS.split()), max_size=14).map(" ".join))
def test_nothing_is_added_but_an_ending_and_nothing_is_left_to_drop(text: str) -> None:
    once = dropped(text)
    assert len(once.split()) <= len(text.split())
    assert dropped(once) == once
