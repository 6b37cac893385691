from __future__ import annotations

import doctest
from collections import Counter

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
        # The last predicate has the tense of all, and its own form of the verb.
        ("#Person1#은 책을 읽으며, 책을 읽었다.", "#Person1#은 책을 읽었다."),
        ("#Person1#은 음악을 듣고, 음악을 들었습니다.", "#Person1#은 음악을 들었습니다."),
        (
            "#Person2#는 #Person1#에게 전화를 걸고, #Person2#는 #Person1#에게 전화를 겁니다!",
            "#Person2#는 #Person1#에게 전화를 겁니다!",
        ),
        (
            "#Person1#은 표를 예매합니다. #Person1#은 표를 예매하고, #Person2#는 웃습니다.",
            "#Person1#은 표를 예매합니다. #Person2#는 웃습니다.",
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
        # Somebody else does it: the clause between, or within, has another subject.
        "#Person1#은 커피를 마시고, #Person2#는 차를 고르고, 커피를 마십니다.",
        "#Person1#은 #Person2#가 여행을 가고, 여행을 갑니다.",
        "#Person1#은 표를 예매했습니다. #Person1#은 표를 예매했고, 차를 마셨습니다.",
        # The clause before would be left without an end.
        "#Person1#은 표를 예매하고, #Person2#는 차를 고르고, #Person1#은 표를 예매합니다.",
        # One follows from the other.
        "#Person1#은 #Person2#가 여행을 가니까, 여행을 갑니다.",
        "#Person1#은 약을 먹어서 약을 먹습니다.",
        # An auxiliary belongs to its verb.
        "#Person1#은 영어를 배우고 있습니다. #Person1#은 영어를 배우고 싶어 합니다.",
        "#Person1#은 회사에 가고 있으며, #Person1#은 회사에 가고 싶다고 합니다.",
        "#Person1#은 이사를 하고 싶습니다. #Person1#은 이사를 하고 나서 후회합니다.",
        "#Person1#은 집에 가려고 합니다. #Person1#은 집에 가려고 했지만, 못 갑니다.",
        "#Person1#은 밥을 먹고, 밥을 먹고 있습니다.",
        # Not, cannot, want to, must, will, and out of respect.
        "#Person1#은 밥을 먹고, 밥을 먹지않습니다.",
        "#Person1#은 밥을 먹고, 밥을 먹지못합니다.",
        "#Person1#은 영화를 보고, 영화를 보고싶습니다.",
        "#Person1#은 집에 가며, 집에 가야합니다.",
        "#Person1#은 표를 예매하고, 표를 예매하겠습니다.",
        "#Person1#은 표를 예매하겠다며, 표를 예매합니다.",
        "#Person1#은 집에 가고, 집에 가십니다.",
        "#Person1#은 문을 닫았으며, 문을 닫는다.",
        "#Person1#은 표를 예약했고, 표를 예약할까요?",
        "#Person1#은 매장에 재고가 없고 재고가 없다고 합니다.",
        "#Person1#은 광고를 보고 창고에 갑니다.",
        "가고, 가고, 갑니다.",
        "",
    ],
)
def test_all_else_stays(text: str) -> None:
    assert dropped(text) == text


@given(st.lists(st.sampled_from(WORDS.split()), max_size=14).map(" ".join))
def test_no_word_is_added_and_nothing_is_left_to_drop(text: str) -> None:
    once = dropped(text)
    assert not Counter(once.split()) - Counter(text.split())
    assert dropped(once) == once
