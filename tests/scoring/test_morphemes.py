from __future__ import annotations

import sys
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.core.errors import UserError
from stages.scoring import morphemes
from stages.scoring.morphemes import (
    CUTTERS,
    Morpheme,
    as_analyzer,
    cut_with_kiwi,
    cut_with_mecab,
    kiwi_morphemes,
    remembering,
)
from stages.scoring.rouge import morpheme_scores
from tests.needs import needs_mecab


def test_masks_and_speaker_tags_are_one_morpheme() -> None:
    assert kiwi_morphemes(["#Person1#은 #PhoneNumber#로 전화했습니다.", "", "#Person12# 의 #DateOfBirth#"]) == [
        "#Person1# 은 #PhoneNumber# 로 전화 하 었 습니다 .",
        "",
        "#Person12# 의 #DateOfBirth#",
    ]


@needs_mecab
def test_mecab_cuts_a_speaker_tag_into_four() -> None:
    assert as_analyzer(cut_with_mecab)(["#Person1#은 3.5킬로를 갔습니다.", "", "끝.\n시작"]) == [
        "# Person 1 # 은 3 . 5 킬로 를 갔 습니다 .",
        "",
        "끝 . 시작",
    ]


@needs_mecab
def test_mecab_scores_a_pair_worked_by_hand() -> None:
    # # Person 1 은 학교 에 갔 다 beside # Person 2 는 학교 에 갔 다 as sets: 6 of 8 (# counts once).
    # Pairs: (# Person) (학교 에) (에 갔) (갔 다) of 8. In order: all but 1 and 은.
    scores = morpheme_scores(["#Person1#은 학교에 갔다"], [["#Person2#는 학교에 갔다"]], as_analyzer(cut_with_mecab))
    assert scores.rounded() == {"rouge1": 75.0, "rouge2": 50.0, "rougeL": 75.0, "final": 66.6667}


def test_a_full_stop_inside_a_morpheme_becomes_another_character() -> None:
    assert kiwi_morphemes(["3.5킬로를 뛰었다..."]) == ["3·5 킬로 를 뛰 었 다 ..."]


def test_a_morpheme_knows_the_characters_it_stands_for() -> None:
    assert cut_with_kiwi(["#Person1#이 갔다."]) == [
        [
            Morpheme("#Person1#", 0, 9),
            Morpheme("이", 9, 10),
            Morpheme("가", 11, 12),
            Morpheme("었", 11, 12),
            Morpheme("다", 12, 13),
            Morpheme(".", 13, 14),
        ]
    ]


@needs_mecab
def test_a_morpheme_of_mecab_knows_its_characters_too() -> None:
    assert cut_with_mecab(["너 갔다"])[0] == [Morpheme("너", 0, 1), Morpheme("갔", 2, 3), Morpheme("다", 3, 4)]


@pytest.mark.parametrize("name", ["kiwi", pytest.param("mecab", marks=needs_mecab)])
@settings(max_examples=50, deadline=None)
@given(text=st.text(alphabet="가각갔다요 .\n#Person12한☃é", max_size=40))
def test_spans_lie_in_their_text_and_in_order(name: str, text: str) -> None:
    starts = [0]
    for morpheme in CUTTERS[name]([text])[0]:
        assert starts[-1] <= morpheme.start <= morpheme.end <= len(text)
        starts.append(morpheme.start)


def test_each_text_is_cut_once() -> None:
    asked: list[str] = []

    def cut(texts: Sequence[str]) -> list[list[Morpheme]]:
        asked.extend(texts)
        return [[Morpheme(text, 0, len(text))] for text in texts]

    remembered = remembering(cut)
    first, second = remembered(["가", "나", "가"]), remembered(["나", "다"])
    assert [row[0].form for row in first + second] == ["가", "나", "가", "나", "다"]
    assert asked == ["가", "나", "다"]


def test_without_mecab_there_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    morphemes._mecab.cache_clear()
    monkeypatch.setitem(sys.modules, "mecab", None)
    with pytest.raises(UserError) as caught:
        cut_with_mecab(["가"])
    assert str(caught.value) == (
        'params.yaml: evaluate.morphemes = "mecab": the package python-mecab-ko is not installed; '
        "`pip install python-mecab-ko` (built for Python up to 3.12), or set kiwi"
    )
