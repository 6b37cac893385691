from __future__ import annotations

import doctest
from pathlib import Path

import pandas as pd
from hypothesis import given
from hypothesis import strategies as st

from stages.corpus import extra_rows
from stages.corpus.extra_rows import dialogue_id, is_extra, labelled, source_of


def test_examples() -> None:
    assert doctest.testmod(extra_rows) == (0, 2)


def test_rows_keep_their_texts_and_get_a_source_and_names_of_their_own() -> None:
    rows = pd.DataFrame({"fname": ["train_7"], "dialogue": ["#Person1#: Hi."], "summary": ["A greeting."]}, dtype="str")
    assert labelled(rows, "extra:english").to_dict("records") == [
        {
            "fname": "english:train_7",
            "dialogue": "#Person1#: Hi.",
            "summary": "A greeting.",
            "topic": "",
            "source": "extra:english",
        }
    ]


@given(st.text(), st.from_regex(r"[^/\0]+", fullmatch=True))
def test_an_id_is_the_same_in_every_table(fname: str, stem: str) -> None:
    source = source_of(Path("data") / f"{stem}.csv")
    rows = pd.DataFrame({"fname": [fname], "dialogue": [""], "summary": [""]}, dtype="str")
    [row] = labelled(rows, source).to_dict("records")
    assert dialogue_id(row["fname"], row["source"]) == dialogue_id(fname)
    assert is_extra(source)


def test_dialogsums_suffixes_are_no_part_of_an_id() -> None:
    assert [dialogue_id(name) for name in ("test_12_1", "dev_3_2", "test_12", "mine_1_2", "train_1_", "12")] == [
        *("test_12", "dev_3", "test_12", "mine_1_2", "train_1_", "12")
    ]
