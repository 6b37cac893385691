from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from stages.augment.quality_gate import (
    Rejected,
    require_faithful,
    require_kept,
    require_korean,
    require_length,
)
from stages.core.params import Quality
from stages.corpus.hangul import hangul_share
from stages.corpus.tables import read_table, references
from tests.tiny import SAMPLE

QUALITY = Quality(
    min_korean_share=0.5, min_length_ratio=0.5, max_length_ratio=2.0, max_similarity=0.7, max_held_out_similarity=0.3
)
DIALOGUE = (
    "#Person1#: 3시 30분에 KTX를 타면 12,000원이래. #Email#로 예매했어.\n#Person2#: 좋아, 세 시까지 서울역으로 갈게."
)


def reason(check: Callable[[], None]) -> str | None:
    """Why a check rejects; None if it does not."""
    try:
        check()
    except Rejected as rejected:
        return str(rejected)
    return None


@pytest.mark.parametrize(
    ("summary", "expected"),
    [
        ("#Person1#은 3시 30분 ktx를 12000원에 예매합니다.", None),
        ("#Person1#은 #Email#로 표를 예매하고, #Person2#는 서울역으로 갑니다.", None),
        ("두 사람은 세 시 반 기차를 탑니다.", None),
        ("#Person1#은 4시 표를 예매합니다.", "summary has a number that the dialogue has not"),
        # A part of a number is another number.
        ("#Person1#은 2,000원을 냅니다.", "summary has a number that the dialogue has not"),
        ("#Person1#은 SRT를 탑니다.", "summary has a name that the dialogue has not"),
        ("#Person1#은 #PhoneNumber#로 전화합니다.", "summary has a mask that the dialogue has not"),
        ("#Person3#은 기차를 탑니다.", "summary names somebody who does not speak"),
    ],
)
def test_all_that_can_be_compared_of_a_summary_is_in_its_dialogue(summary: str, expected: str | None) -> None:
    assert reason(lambda: require_faithful(DIALOGUE, summary)) == expected


@pytest.mark.parametrize("split", ["train", "dev", "test"])
def test_the_summaries_of_the_sample_are_faithful(split: str) -> None:
    table = read_table(SAMPLE / f"{split}.csv", split)  # type: ignore[arg-type]
    unfaithful = [
        (summary, why)
        for dialogue, row in zip(table["dialogue"], references(table), strict=True)
        for summary in row
        if (why := reason(partial(require_faithful, dialogue.replace("#사람", "#Person").replace("：", ":"), summary)))
    ]
    assert unfaithful == []


@pytest.mark.parametrize(
    ("length", "expected"),
    [(4, "dialogue too short or too long"), (5, None), (20, None), (21, "dialogue too short or too long")],
)
def test_a_length_is_within_its_bounds(length: int, expected: str | None) -> None:
    assert reason(lambda: require_length("dialogue", length, 10, QUALITY)) == expected


@pytest.mark.parametrize(
    ("dialogue", "summary", "expected"),
    [
        (DIALOGUE, "요약 #Email#", None),
        (DIALOGUE.replace("#Person2#", "#Person3#"), "요약 #Email#", "other speakers"),
        (DIALOGUE.replace("#Email#", "메일"), "요약 #Email#", "other masks"),
        (DIALOGUE, "요약", "other masks"),
        (f"{DIALOGUE} #Email#", "요약 #Email#", "other masks"),
    ],
)
def test_speakers_and_masks_are_those_of_the_origin(dialogue: str, summary: str, expected: str | None) -> None:
    assert reason(lambda: require_kept(dialogue, summary, DIALOGUE, "원래 요약 #Email#")) == expected


def test_half_of_the_letters_are_hangul() -> None:
    assert reason(lambda: require_korean("가나 ab", "가나 ab", QUALITY)) is None
    assert reason(lambda: require_korean("가나 abc", "가나", QUALITY)) == "not Korean"
    assert reason(lambda: require_korean("가나", "가나 abc", QUALITY)) == "not Korean"


def test_korean_share_counts_letters_outside_tags() -> None:
    assert hangul_share("#Person1#이 #Email#로 abc 보냅니다 123!") == 6 / 9
    assert hangul_share("#Person1# 123") == 0.0
