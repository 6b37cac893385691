from __future__ import annotations

from collections.abc import Sequence
from html import unescape

from hypothesis import given, settings
from hypothesis import strategies as st

from stages.pages.highlight import mark_overlap
from stages.scoring.morphemes import Morpheme, cut_with_kiwi, joined
from stages.scoring.rouge import Text
from tests.parsed_page import part


def overlap(text: str, morphemes: Sequence[Morpheme], others: Sequence[Text]) -> str:
    return str(part("marked")(mark_overlap(text, morphemes, others)))


def marked(text: str, *others: str) -> str:
    (morphemes,) = cut_with_kiwi([text])
    return overlap(text, morphemes, [Text.of(joined(row)) for row in cut_with_kiwi(others)])


def test_pairs_are_marked_more_than_single_morphemes() -> None:
    # 간다 is 가 + ㄴ다, whose end the first text has too.
    assert marked("#Person1#은 학교에 간다.", "#Person1#은 학교를 본다.", "집에 있다.") == (
        '<mark class="two">#Person1#은 학교</mark><mark class="one">에 간다</mark>.'
    )


def test_a_space_is_marked_between_marked_words_only() -> None:
    words = [Morpheme("가", 0, 1), Morpheme("나", 2, 3), Morpheme("다", 4, 5)]
    assert overlap("가 나 다", words, [Text.of("가 나")]) == '<mark class="two">가 나</mark> 다'
    assert overlap("가 나 다", words, []) == "가 나 다"


def test_full_stops_neither_match_nor_part_a_pair() -> None:
    assert marked("간다. 온다.", "온다.") == '<mark class="one">간다</mark>. <mark class="two">온다</mark>.'


def test_text_is_escaped() -> None:
    assert overlap("<b>", [Morpheme("<b>", 0, 3)], [Text.of("<b>")]) == '<mark class="one">&lt;b&gt;</mark>'


@settings(max_examples=50, deadline=None)
@given(st.text(alphabet="가나다 .\n<&#Person1", max_size=40))
def test_the_text_is_whole(text: str) -> None:
    plain = marked(text, "가나다. #Person1#").replace('<mark class="one">', "").replace('<mark class="two">', "")
    assert unescape(plain.replace("</mark>", "")) == text
