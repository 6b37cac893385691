from __future__ import annotations

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus.hangul import hangul_share
from stages.decoding import postprocess
from stages.decoding.postprocess import RULES, process, sentences

KOREAN = st.text(alphabet="가나다 요.?!…#Person12은는<think>/\n\"'3a", max_size=80)


def test_each_rule_does_what_its_example_says() -> None:
    found = doctest.testmod(postprocess)
    assert found.failed == 0
    assert found.attempted >= len(RULES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#Person1#은 웃습니다.", "#Person1#은 웃습니다."),
        ("  #Person1#은\n웃습니다.\n\n", "#Person1#은 웃습니다."),
        (
            "#Person1# 은 #Person2# 를 만나고 #Person12# 에게 갑니다.",
            "#Person1#은 #Person2#를 만나고 #Person12#에게 갑니다.",
        ),
        ("#Person1# 은행에 갑니다.", "#Person1# 은행에 갑니다."),
        ("#Person1# 가게에 갑니다.", "#Person1# 가게에 갑니다."),
        ("#PhoneNumber# 는 번호입니다.", "#PhoneNumber# 는 번호입니다."),
        ("그것은 #Person2# 의", "그것은 #Person2#의"),
        ("<think>\n\n</think>\n\n둘은 만납니다.", "둘은 만납니다."),
        ("<think>먼저 읽자.\n그다음</think>둘은 만납니다.<think>끝</think>", "둘은 만납니다."),
        ("<think>끝나지 않은 생각", ""),
        ("먼저 읽자.\n그다음\n</think>\n\n둘은 만납니다.", "둘은 만납니다."),
        ("먼저 읽자.</think>둘은 만납니다.<think>끝나지 않은", "둘은 만납니다."),
        ("[THINK]먼저[/THINK]둘은 만납니다.", "둘은 만납니다."),
        ("<|channel|>analysis<|message|>먼저<|channel|>final<|message|>둘은 만납니다.", "둘은 만납니다."),
        ("누가 올까? 아무도 모릅니다.", "누가 올까? 아무도 모릅니다."),
        ("누가 올까?", "누가 올까?"),
        ("둘은 만납니다. 그리고 #Person1#은", "둘은 만납니다."),
        ("둘은 만납니다. 둘은 웃습니다", "둘은 만납니다. 둘은 웃습니다"),
        ("값은 3.5 만 원이고", "값은 3.5 만 원이고"),
        ("둘은 만납니다. 둘은 만납니다. 둘은 만", "둘은 만납니다."),
        ("They meet. They la", "They meet."),
        ("", ""),
    ],
)
def test_all_rules(text: str, expected: str) -> None:
    assert process(text) == expected
    assert process(expected) == expected


def test_only_the_named_rules_apply() -> None:
    text = "<think>음</think>#Person1# 은 갑니다. #Person1# 은 갑니다. 그리고"
    assert process(text, ["thinking", "repeated"]) == "#Person1# 은 갑니다. 그리고"
    assert process(text, []) == text


@given(KOREAN)
def test_nothing_is_invented_and_a_second_pass_changes_nothing(text: str) -> None:
    once = process(text)
    assert process(once) == once
    letters = iter(text)
    assert all(char in letters for char in once if not char.isspace())


@given(KOREAN)
def test_a_question_mark_changes_nothing_else(text: str) -> None:
    """Where a text stands with full stops, it stands with question marks."""
    assert process(text.replace(".", "?")) == process(text.replace("?", ".")).replace(".", "?") or "." not in text


@given(KOREAN)
def test_sentences_are_the_text(text: str) -> None:
    line = " ".join(text.split())
    assert " ".join(sentences(line)) == line


@pytest.mark.parametrize(
    ("text", "share"),
    [
        ("둘은 만납니다.", 1.0),
        ("They meet.", 0.0),
        ("#Person1#은 옴", 1.0),
        ("가a", 0.5),
        ("", 0.0),
        ("123", 0.0),
    ],
)
def test_share_of_hangul(text: str, share: float) -> None:
    assert hangul_share(text) == share
