from __future__ import annotations

import html
import re

from hypothesis import given
from hypothesis import strategies as st

from stages.pages.marked_text import Span, join_lines, mark_changes, mark_row, mark_tags
from tests.parsed_page import in_english, part


def diff(before: str, after: str) -> str:
    return str(part("marked")(mark_changes(before, after)))


def test_diff_marks_words_and_shows_changed_white_space() -> None:
    assert diff("나는 집에 간다. \n<b>", "나는 집에 갔다.\n<b>") == (
        "나는 집에 <del>간다</del><ins>갔다</ins>.<del>␣</del>\n&lt;b&gt;"
    )
    assert diff("그럼요ㅎㅎ", "그럼요") == "그럼요<del>ㅎㅎ</del>"
    assert diff("가.\\n나", "가.\n나") == "가.<del>\\n</del><ins>↵\n</ins>나"


TEXT = st.text(st.sampled_from("가나 ab#1.<&\n\r\\\"'"))


@given(TEXT, TEXT)
def test_diff_holds_both_texts_whole(before: str, after: str) -> None:
    marked = diff(before, after)
    old = re.sub(r"<ins>.*?</ins>", "", marked, flags=re.DOTALL)
    new = re.sub(r"<del>.*?</del>", "", marked, flags=re.DOTALL)
    for text, marks in ((before, old), (after, new)):
        plain = re.sub(r"</?(?:ins|del)>", "", marks).replace("↵\n", "\n").replace("↵", "\n")
        assert html.unescape(plain.replace("␣", " ").replace("␍", "\r")) == text


def test_tags_and_masks_are_set_off() -> None:
    runs = mark_row("#Person1#: #Email# #39; <i>", "#Person2#가 묻습니다.")
    assert in_english(part("marked")(runs)) == (
        "<b>#Person1#</b>: <b>#Email#</b> #39; &lt;i&gt;\n\n<em>Summary</em> <b>#Person2#</b>가 묻습니다."
    )


@given(st.lists(st.sampled_from(["#Person1#", "#Email#", "#", "가", "\n", "&", "'"])).map("".join))
def test_tags_are_set_off_in_the_whole_text(text: str) -> None:
    runs = mark_tags(text)
    assert "".join(run.text for run in runs) == text
    assert all(re.fullmatch("#(Person1|Email)#", run.text) for run in runs if run.mark == "tag")


def test_lines_are_joined_by_line_feeds() -> None:
    assert join_lines([[Span("가")], [], [Span("나", "tag")]]) == [
        Span("가"),
        Span("\n"),
        Span("\n"),
        Span("나", "tag"),
    ]
