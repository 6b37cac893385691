from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.augment.quality_gate import Rejected, require_faithful
from stages.corpus.invented_facts import facts, invented, masks
from stages.scoring import prediction_checks

TEXTS = st.text(alphabet="가나 .#Person12:\nAbé３3,", max_size=60)


def test_masks_are_counted_and_speakers_are_none() -> None:
    assert masks("#Person1# #Email#, #Email#과 #SSN#, #SSN") == {"#Email#": 2, "#SSN#": 1}


@pytest.mark.parametrize(
    ("summary", "dialogue", "expected"),
    [
        ("１２시 ＫＴＸ", "12시 ktx", []),
        ("café", "CAFÉ에서", []),
        ("café", "caf에서", ["café"]),
        ("1,200,300원과 12,3456", "1200300원, 12와 3456", []),
        ("1234,567", "1,234,567", []),
        ("2,000원", "12,000원", ["2000"]),
        ("#Bob#이 #Person1#을", "Bob입니다", ["#Bob#"]),
        ("25편 SRT, 25편, #Email#", "", ["#Email#", "25", "SRT"]),
    ],
)
def test_facts_are_compared_by_what_they_mean(summary: str, dialogue: str, expected: list[str]) -> None:
    assert [fact.text for fact in invented(summary, dialogue)] == expected


@given(TEXTS, TEXTS)
def test_the_gate_and_the_report_find_the_same(summary: str, dialogue: str) -> None:
    found = prediction_checks.invented(summary, dialogue, []) + prediction_checks.silent_speakers(summary, dialogue, [])
    try:
        require_faithful(dialogue, summary)
    except Rejected:
        assert found
    else:
        assert found == []


@given(TEXTS)
def test_a_text_invents_nothing_of_itself(text: str) -> None:
    assert invented(text, text) == []
    assert [fact.kind for fact in facts(text) if fact.text.startswith("#")] == ["mask"] * len(masks(text))
