from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus.dialogue import MASK_OR_SPEAKER, MAY_BEGIN_TURN, Turn, parse_turns, render_turns, speakers


def test_turns_keep_masks_tags_and_newlines_within() -> None:
    dialogue = (
        "#Person1#: #Person2#야, 회사 #에서 #PhoneNumber#로 전화 왔어.\n"
        "급하대: #Person3#도 찾더라.\n"
        "#Person2#:알았어.\n"
        "#Person2#: \n"
        "#Person10#:\t저요?"
    )
    assert parse_turns(dialogue) == [
        Turn("#Person1#", "#Person2#야, 회사 #에서 #PhoneNumber#로 전화 왔어.\n급하대: #Person3#도 찾더라."),
        Turn("#Person2#", "알았어."),
        Turn("#Person2#", ""),
        Turn("#Person10#", "저요?"),
    ]
    assert speakers(dialogue) == ["#Person1#", "#Person2#", "#Person10#"]


def test_text_before_the_first_tag_is_no_turn() -> None:
    assert parse_turns("전화벨이 울린다.\n#Person1#: 여보세요?") == [Turn("#Person1#", "여보세요?")]
    assert parse_turns("아무도 말하지 않는다.") == []
    assert parse_turns("") == []


def test_an_orphan_hash_does_not_hide_a_tag() -> None:
    assert MASK_OR_SPEAKER.findall("회사 #에서 #Person2#를 #Bob#이 ##SSN#") == ["#Person2#", "#SSN#"]


@pytest.mark.parametrize(
    ("dialogue", "may"),
    [
        ("#Person1#(여): 네", True),
        ("<b>#Person1#</b>: 네", True),
        ("**#Person1#** [웃음]： 네", True),
        ("#Peson1#: 네", True),
        ("#Person1#\n: 네", True),
        ("오늘은 #Person1#에게 덥다: 정말", False),
        ("#P1#: 네", False),
    ],
)
def test_a_dialogue_is_known_by_what_cleaning_can_mend(dialogue: str, may: bool) -> None:
    assert bool(MAY_BEGIN_TURN.search(dialogue)) == may


TAG = st.integers(1, 12).map(lambda number: f"#Person{number}#")
LINE = st.text(st.sampled_from("가나 :#,.?\tPerson12")).filter(lambda line: not parse_turns(line))
TEXT = st.lists(LINE, max_size=3).map("\n".join).map(str.strip).filter(lambda text: not parse_turns(text))


@given(st.lists(st.builds(Turn, TAG, TEXT)))
def test_parsing_undoes_rendering(turns: list[Turn]) -> None:
    assert parse_turns(render_turns(turns)) == turns
