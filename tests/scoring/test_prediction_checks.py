from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from stages.cleaning.rules import clean_dialogue, clean_summary, load_rules
from stages.corpus.dialogue import speakers
from stages.corpus.hangul import hangul_share
from stages.corpus.tables import read_table, references
from stages.scoring.prediction_checks import (
    CHECKS,
    found,
    invented,
    length,
    missing_masks,
    not_korean,
    repeats,
    silent_speakers,
    swapped_speakers,
)
from stages.speaker_swap import relabel

ROOT = Path(__file__).parents[2]

DIALOGUE = """\
#Person1#: 우산을 지하철에 두고 내렸어요. 검정색 장우산이에요.
#Person2#: 분실물 센터에 전화해 보겠습니다. 번호는 #PhoneNumber#입니다.
#Person1#: 네, 1,200원짜리 KTX 열차 3번 칸이었어요."""
"""What the checks are asked about, below."""


def test_who_did_what() -> None:
    right = "#Person1#은 지하철에 검정색 우산을 두고 내립니다. #Person2#는 분실물 센터에 전화합니다."
    wrong = "#Person2#는 지하철에 검정색 우산을 두고 내립니다. #Person1#은 분실물 센터에 전화합니다."
    assert swapped_speakers(right, DIALOGUE, []) == []
    assert swapped_speakers(wrong, DIALOGUE, []) == ["#Person1# and #Person2#"]
    assert swapped_speakers("우산을 찾습니다.", DIALOGUE, []) == []


def test_two_of_three_speakers_are_swapped() -> None:
    dialogue = f"{DIALOGUE}\n#Person3#: 저도 같이 갈게요."
    wrong = "#Person2#는 지하철에 검정색 우산을 두고 내립니다. #Person3#은 같이 갑니다."
    assert swapped_speakers(wrong, dialogue, []) == ["#Person1# and #Person2#"]


def test_swapped_speakers_in_the_samples_references() -> None:
    """The rates that the report and the documentation give."""
    rows = clean_sample()
    pairs = [(reference, relabel(reference, exchange(dialogue)), dialogue) for dialogue, reference in rows]
    pairs = [pair for pair in pairs if pair[0] != pair[1]]
    detected = sum(bool(swapped_speakers(swapped, dialogue, [])) for _, swapped, dialogue in pairs)
    alarms = sum(bool(swapped_speakers(reference, dialogue, [])) for reference, _, dialogue in pairs)
    assert (len(pairs), detected, alarms) == (161, 92, 8)


def test_the_other_checks_find_nothing_in_the_samples_references() -> None:
    names = [name for dialogue, reference in clean_sample() for name in found(reference, dialogue, [])]
    assert set(names) == {"swapped_speakers"}


def clean_sample() -> list[tuple[str, str]]:
    """Each dialogue of the sample, cleaned, with each of its references."""
    rules = load_rules(ROOT / "data/rules/denoise.csv")
    rows = []
    for split in ("train", "dev", "test"):
        table = read_table(ROOT / f"data/sample/{split}.csv", split)
        rows += [(d, r) for d, refs in zip(table["dialogue"], references(table), strict=True) for r in refs]
    return [
        (clean_dialogue(dialogue, rules, fix_spacing=True), clean_summary(reference, rules, fix_spacing=True))
        for dialogue, reference in rows
    ]


def exchange(dialogue: str) -> dict[str, str]:
    first, second, *_ = speakers(dialogue)
    return {first: second, second: first}


def test_a_tag_that_does_not_speak() -> None:
    assert silent_speakers("#Person1#과 #Person3#, #Person3#이 갑니다.", DIALOGUE, []) == ["#Person3#"]
    assert silent_speakers("#Person1#과 #Person2#가 갑니다.", DIALOGUE, []) == []


def test_what_the_dialogue_does_not_hold_is_invented() -> None:
    assert invented("#Person2#가 #Email#로 KTX와 SRT 25편, 1200원을 3번 알립니다.", DIALOGUE, []) == [
        "#Email#",
        "SRT",
        "25",
    ]
    assert invented("ktx, #PhoneNumber#, 1,200", DIALOGUE, []) == []
    assert invented("120", DIALOGUE, []) == ["120"]


def test_an_orphan_hash_hides_no_mask() -> None:
    assert invented("회사 #에서 #Email#을", DIALOGUE, []) == ["#Email#"]


def test_a_mask_that_every_reference_has_is_missed() -> None:
    refs = ["#Person1#이 #PhoneNumber#와 #Email#을 받습니다.", "#PhoneNumber#입니다."]
    assert missing_masks("#Person2#가 번호를 줍니다.", DIALOGUE, refs) == ["#PhoneNumber#"]
    assert missing_masks("#PhoneNumber#", DIALOGUE, refs) == []
    assert missing_masks("번호", DIALOGUE, []) == []


def test_three_words_twice_are_a_repetition() -> None:
    assert repeats("그는 집에 갔다. 그리고 그는 집에 갔다.", "", []) == ["그는 집에 갔다"]
    assert repeats("그는 집에 갔다. 그는 집에 왔다.", "", []) == []
    assert repeats("네 네 네 네", "", []) == ["네 네 네"]


def test_an_answer_in_english() -> None:
    assert not_korean("#Person1# asks #Person2# about an 우산.", "", []) == ["15% Hangul"]
    assert not_korean("#Person1#은 KTX를 탑니다.", "", []) == []
    assert not_korean("#Person1# 1,200", "", []) == []


def test_lengths_beside_the_references() -> None:
    refs = ["가나다라", "가나다라마바"]
    assert length("가나", "", refs) == ["0.40 of the references"]
    assert length("가나다라마바사아자차카", "", refs) == ["2.20 of the references"]
    assert length("가나다라마", "", refs) == []
    assert length("", "", []) == []


def test_found_names_only_what_is_wrong() -> None:
    assert found("#Person1#이 우산을 찾습니다.", DIALOGUE, ["#Person1#이 우산을 잃어버렸습니다."]) == {}
    assert found("", DIALOGUE, ["우산"]) == {"length": ["0.00 of the references"]}


TEXTS = st.text(alphabet="가나다 .#Person12:\nAb3,", max_size=60)


@given(TEXTS, TEXTS)
def test_any_texts_are_checked(summary: str, dialogue: str) -> None:
    assert found(summary, dialogue, []).keys() <= CHECKS.keys()
    assert invented(dialogue, dialogue, []) == []


def test_health() -> None:
    assert hangul_share("#Person1#은 집에 go 10:30") == 3 / 5
    assert hangul_share(" #Person1#") == 0
