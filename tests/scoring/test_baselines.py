from __future__ import annotations

from stages.scoring.baselines import BASELINES, lead, longest

DIALOGUE = """\
#Person1#: 저기요, 이거 얼마예요?
#Person2#: 만 원이에요.
#Person1#: 좀 비싸네요. 깎아 주시면 안 돼요?
#Person3#: 저도 하나 살게요.
#Person2#: 그럼 두 개에 만 팔천 원이요."""


def test_lead_copies_the_first_turns_with_their_speakers() -> None:
    assert lead(DIALOGUE, 2) == "#Person1# 저기요, 이거 얼마예요? #Person2# 만 원이에요."
    assert BASELINES["lead3"](DIALOGUE) == f"{lead(DIALOGUE, 2)} #Person1# 좀 비싸네요. 깎아 주시면 안 돼요?"


def test_longest_keeps_the_order_of_the_dialogue() -> None:
    assert longest(DIALOGUE, 2) == (
        "#Person1# 좀 비싸네요. 깎아 주시면 안 돼요? #Person2# 그럼 두 개에 만 팔천 원이요."
    )
    assert BASELINES["longest3"](DIALOGUE) == f"#Person1# 저기요, 이거 얼마예요? {longest(DIALOGUE, 2)}"


def test_of_equally_long_turns_the_earlier_is_taken() -> None:
    assert longest("#Person1#: 가나\n#Person2#: 다라\n#Person1#: 마바", 2) == "#Person1# 가나 #Person2# 다라"


def test_a_short_dialogue_is_copied_whole() -> None:
    dialogue = "#Person1#: 안녕\n#Person2#: 안녕하세요"
    whole = "#Person1# 안녕 #Person2# 안녕하세요"
    assert {name: extract(dialogue) for name, extract in BASELINES.items()} == dict.fromkeys(
        ("lead2", "lead3", "longest3"), whole
    )
