from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from stages import explore
from stages.common import figures, profile
from stages.common.params import Prompt
from stages.common.tables import write_table

PROMPT = Prompt(instruction="한 문장으로 요약하세요.", max_tokens=1024, few_shot=0)

RAW = pd.DataFrame(
    {
        "fname": ["train_0", "train_1"],
        "dialogue": [
            "#Person1#: 번호는 #PhoneNumber#25395예요. \\n#Person2#: “네” <b>",
            "#Person1#: 뭐?\n#Person2#: 응\n#Person3#: 자",
        ],
        "summary": ["#Person1#이 번호를 알립니다.", "셋이 말합니다."],
        "topic": ["전화 번호", "번호 & 잠"],
    }
)
CLEAN = RAW.assign(
    dialogue=['#Person1#: 번호는 #PhoneNumber#예요.\n#Person2#: "네" <b>', RAW["dialogue"][1]],
)
HELD_OUT = pd.DataFrame(
    {
        "fname": ["dev_0"],
        "dialogue": ["#Person1#: 안녕\n#Person2#: 응"],
        "summary1": ["인사"],
        "summary2": ["인사함"],
    }
)
UNSCORED = HELD_OUT[["fname", "dialogue"]]
FRAMES = {
    ("train", "raw"): RAW,
    ("train", "clean"): CLEAN,
    ("train", "merged"): pd.concat([CLEAN, CLEAN.iloc[:1].assign(fname="swap_0")]).assign(
        source=["original", "original", "speaker_swap"]
    ),
    ("dev", "raw"): HELD_OUT,
    ("dev", "clean"): HELD_OUT,
    ("test", "raw"): UNSCORED,
    ("test", "clean"): UNSCORED,
}


def words(*frames: pd.DataFrame) -> dict[str, int]:
    """Lengths in words, where a run has those in tokens."""
    return {text: len(text.split()) for frame in frames for text in [PROMPT.instruction, *profile.texts(frame)]}


def draw() -> str:
    return explore.explore(FRAMES, words(*FRAMES.values()), PROMPT)


class Page(HTMLParser):
    """What a page is made of; raises where an element is closed that is not the one last opened."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.addresses: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.addresses += [value or "" for name, value in attrs if name in ("src", "href", "action", "data")]
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_profile_counts_and_measures_a_table() -> None:
    found = profile.profile(CLEAN, words(CLEAN), PROMPT.instruction)
    assert found.counts == {"Rows": 2, "References": 2, "Different topics": 2}
    assert found.measures == {
        "Dialogue, characters": [50, 39],
        "Dialogue, tokens": [6, 6],
        "Summary, characters": [20, 8],
        "Summary, tokens": [3, 2],
        "Summary as % of its dialogue's characters": [40.0, 100 * 8 / 39],
        "Turns in a dialogue": [2, 3],
        "Speakers in a dialogue": [2, 3],
    }
    assert found.prompts == [9, 9]
    assert {mask: n for mask, n in found.masks.items() if n} == {"PhoneNumber": 1}
    assert not any(found.noise.values())


def test_profile_takes_every_reference_and_needs_none() -> None:
    assert profile.profile(HELD_OUT, words(HELD_OUT), PROMPT.instruction).measures["Summary, characters"] == [
        2,
        3,
    ]
    bare = profile.profile(UNSCORED, words(UNSCORED), PROMPT.instruction)
    assert bare.counts == {"Rows": 1, "References": 0, "Different topics": 0}
    assert bare.measures["Summary, tokens"] == []


@pytest.mark.parametrize(
    ("text", "kinds"),
    [
        ("#Person1#: 네 #PhoneNumber#로 #Person2#를 불러요.\n#Person2#: 2/3, 50%, $5 & D+1", {}),
        ("#Person1#: 네.\\n#Person2#: 네.", {"literal \\n": 1}),
        ("#Person1#: 네.<br>#Person2#: 네.", {"<br>": 1}),
        ("#Person1#: 네. \r\n#Person2#: 네.", {"carriage return": 1, "space before a newline": 1}),
        ("#Person1#: 네.#Person2#: 네.", {"speaker inside a line": 1}),
        ("#Person1#: #Email##Person2#: 네.", {"speaker inside a line": 1}),
        ("#사람1#: 네\nPerson2: 네", {"other form of speaker": 2}),
        ("#Person1#: 회사 #에서 #Person2#를", {"orphan #": 1}),
        ("#Person1#: #PhoneNumber#25395", {"digits behind a mask": 1}),
        ("#Person1#: $#,000", {"amount without digits": 1}),
        ("#Person1#: #Bob#이 #Capital Airport#로", {"mask around a word": 2}),
        ("“네” ‘응’", {"curly quote": 4}),
        ("음… 자·밤", {"… — – · ‹ ›": 2}),
        ("ㅋㅋㅋ ㅠㅠ", {"ㅋㅋ ㅎㅎ ㅠㅠ": 2}),
        ("배경ㅇ로 제ㅏ", {"stray jamo": 2}),
        (
            "낙관(落款) A\\S 2*2  끝：",
            {"hanja": 1, "\\ for /": 1, "* between digits": 1, "doubled space": 1, "full-width sign": 1},
        ),
    ],
)
def test_noise_counts_each_kind_and_leaves_tags_alone(text: str, kinds: dict[str, int]) -> None:
    assert profile.noise(text) == kinds


def test_quantiles_and_shares_over_a_limit() -> None:
    assert profile.quantiles([3, 1, 2]) == {
        "Least": 1,
        "5%": 1.1,
        "Median": 2,
        "95%": 2.9,
        "Most": 3,
        "Mean": 2,
    }
    assert set(profile.quantiles([]).values()) == {None}
    assert profile.percent_over([100, 256, 257, 2000], [256, 1024]) == {"over 256": 50, "over 1,024": 25}
    assert profile.percent_over([], [256]) == {"over 256": None}


def test_topic_words_counts_rows_and_orders_ties() -> None:
    assert list(profile.topic_words(["b a", "a a", "c b", "d"], n=3).items()) == [
        ("a", 2),
        ("b", 2),
        ("c", 1),
    ]


def test_most_cleaned_takes_changed_rows_by_kinds_of_noise() -> None:
    raw = pd.DataFrame({"fname": list("abcd"), "dialogue": ["네", "ㅋㅋ 네", "“네” ㅋㅋ", "같다"]})
    clean = pd.DataFrame({"fname": list("dcba"), "dialogue": ["같다", '"네"', "네", "응"]})
    assert profile.most_cleaned(raw, clean) == [
        ("c", "“네” ㅋㅋ", '"네"'),
        ("b", "ㅋㅋ 네", "네"),
        ("a", "네", "응"),
    ]
    assert profile.most_cleaned(raw, clean, n=1) == [("c", "“네” ㅋㅋ", '"네"')]


def test_bins_have_round_edges_and_percentages_keep_all_that_is_longer() -> None:
    assert figures.bins([2, 3, 3, 7]) == [2, 3, 4, 5, 6]
    assert figures.bins(range(101)) == list(range(0, 100, 5))
    assert figures.percentages([0, 5, 12, 999], [0, 10]) == [50, 50]
    assert figures.percentages([], [0, 10]) == [0, 0]


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_bins_are_few_and_hold_every_value(values: list[float]) -> None:
    edges = figures.bins(values)
    assert len(edges) <= 20
    assert sum(figures.percentages(values, edges)) == pytest.approx(100)


def test_diff_marks_words_and_shows_changed_white_space() -> None:
    assert figures.diff("나는 집에 간다. \n<b>", "나는 집에 갔다.\n<b>") == (
        "나는 집에 <del>간다</del><ins>갔다</ins>.<del>␣</del>\n&lt;b&gt;"
    )
    assert figures.diff("그럼요ㅎㅎ", "그럼요") == "그럼요<del>ㅎㅎ</del>"
    assert figures.diff("가.\\n나", "가.\n나") == "가.<del>\\n</del><ins>↵\n</ins>나"


TEXT = st.text(st.sampled_from("가나 ab#1.<&\n\r\\\"'"))


@given(TEXT, TEXT)
def test_diff_holds_both_texts_whole(before: str, after: str) -> None:
    marked = str(figures.diff(before, after))
    old = re.sub(r"<ins>.*?</ins>", "", marked, flags=re.DOTALL)
    new = re.sub(r"<del>.*?</del>", "", marked, flags=re.DOTALL)
    for text, marks in ((before, old), (after, new)):
        plain = re.sub(r"</?(?:ins|del)>", "", marks).replace("↵\n", "\n").replace("↵", "\n")
        assert html.unescape(plain.replace("␣", " ").replace("␍", "\r")) == text


def test_page_is_well_formed_and_asks_for_nothing_from_outside() -> None:
    text = draw()
    page = Page(text)
    assert page.open == []
    assert not page.tags & {"script", "link", "img", "iframe", "object", "embed", "image", "use"}
    assert all(address.startswith("#") for address in page.addresses)
    assert "url(" not in text
    assert "@import" not in text


def test_page_shows_counts_outliers_and_what_cleaning_changed() -> None:
    text = draw()
    assert '<span>speaker_swap</span><i style="width:50.0%"></i><span>1</span>' in text
    assert '<span>번호</span><i style="width:100.0%"></i><span>2</span>' in text
    assert "<h4>train_1: 39 characters</h4>" in text
    assert "prompt.max_tokens is 1,024." in text
    assert "#PhoneNumber#<del>25395</del>예요" in text
    assert "<b>#PhoneNumber#</b>예요" in text


def test_text_of_the_tables_is_escaped_everywhere() -> None:
    evil = "<script>alert('&')</script>\""
    frames: dict[tuple[str, str], Any] = {
        column: frame.assign(**{name: frame[name] + evil for name in frame.columns}) for column, frame in FRAMES.items()
    }
    frames["train", "raw"] = frames["train", "raw"].assign(dialogue=RAW["dialogue"] + " … " + evil)
    text = explore.explore(frames, words(*frames.values()), PROMPT)
    assert "<script" not in text
    assert text.count("&lt;script&gt;alert(&#39;&amp;&#39;)&lt;/script&gt;&#34;") > 8
    assert Page(text).open == []


def test_stage_writes_the_same_bytes_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    params = Path(__file__).parents[1] / "params.yaml"
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Path("params.yaml").write_bytes(params.read_bytes())
    for column, path in explore.TABLES.items():
        write_table(FRAMES[column], path)
    tokenizer = Tokenizer(models.WordLevel({"[UNK]": 0}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(tokenizer_object=tokenizer).save_pretrained("tokenizer")
    Path("models").mkdir()
    Path("models/base.json").write_text('{"path": "tokenizer"}')
    explore.main()
    first = explore.PAGE.read_bytes()
    explore.main()
    assert explore.PAGE.read_bytes() == first
    assert Page(first.decode()).open == []
