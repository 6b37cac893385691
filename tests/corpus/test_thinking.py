from __future__ import annotations

import doctest

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corpus import thinking
from stages.corpus.thinking import TAGS, without_thinking

TEXTS = st.lists(st.sampled_from([*"가나 <>/\n", "think", *(tag for tags in TAGS for tag in tags)]), max_size=12)


def test_its_example() -> None:
    assert doctest.testmod(thinking) == (0, 1)


@pytest.mark.parametrize(("opening", "closing"), TAGS)
def test_every_tag(opening: str, closing: str) -> None:
    assert without_thinking(f"{opening}\n생각\n{closing}\n답") == "\n답"
    assert without_thinking(f"생각{closing}답") == "답"
    assert without_thinking(f"답{opening}생각") == "답"
    assert without_thinking(f"생각 하나{closing}생각 둘{closing}답{opening}끝{closing}") == "답"
    assert without_thinking(f"{opening}하나{opening}둘{closing}셋{closing}답") == "답"


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("<THINK>생각</Think>답", "답"),
        ("<thi<think>생각</think>nk>끝", ""),
        ("a < b이고 b > c라고 생각합니다. [생각]", "a < b이고 b > c라고 생각합니다. [생각]"),
        ("</s>는 끝입니다.", "</s>는 끝입니다."),
        ("", ""),
    ],
)
def test_texts(text: str, answer: str) -> None:
    assert without_thinking(text) == answer


@settings(deadline=None)
@given(TEXTS.map("".join))
def test_no_tag_is_left_and_nothing_is_invented(text: str) -> None:
    answer = without_thinking(text)
    assert not any(tag.lower() in answer.lower() for tags in TAGS for tag in tags)
    assert without_thinking(answer) == answer
    letters = iter(text)
    assert all(char in letters for char in answer)


def test_many_tags_take_no_time() -> None:
    assert without_thinking("<think>" * 100_000) == ""
