"""Broken tables, each through the real ingest stage: one exact error line, exit code 1, nothing written."""

from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
import unicodedata
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages import ingest
from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.corpus.csv_rows import LARGEST, MENDED
from stages.corpus.tables import (
    BATCH,
    open_table,
    read_table,
    reference_columns,
    references,
    write_table,
    writing_table,
)

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "data" / "sample"

TRAIN = """\
fname,dialogue,summary,topic
train_0,"#Person1#: 우산 있어?
#Person2#: 응, 빌려줄게.",#Person2#가 우산을 빌려줍니다.,우산
train_1,#Person1#: 늦겠다. #Person2#: 뛰자.,두 사람은 뛰기로 합니다.,지각
"""
DEV = """\
fname,dialogue,summary1,summary2,topic
dev_0,#Person1#: 배고파.,#Person1#은 배가 고픕니다.,#Person1#이 배고파합니다.,식사
"""
TEST = """\
fname,dialogue
test_0,#Person1#: 덥다.
"""

Edit = tuple[str, str]


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with good tables, and with what an earlier run made of them."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    source = tmp_path / "data" / "sample"
    source.mkdir(parents=True)
    for name, text in (("train", TRAIN), ("dev", DEV), ("test", TEST)):
        (source / f"{name}.csv").write_text(text, encoding="utf-8", newline="")
    monkeypatch.chdir(tmp_path)
    ingest.main()
    return tmp_path


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def edited(text: str, *edits: Edit) -> bytes:
    for old, new in edits:
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text.encode()


BROKEN = {
    "empty file": ("train", b"", "empty; a table needs a header and at least one row"),
    "only a byte order mark and blank lines": (
        "train",
        b"\xef\xbb\xbf\r\n\r\n",
        "empty; a table needs a header and at least one row",
    ),
    "header without rows": (
        "train",
        b"fname,dialogue,summary,topic\n",
        "a header without rows; add at least one row",
    ),
    "missing column": (
        "train",
        edited(TRAIN, ("fname,dialogue,summary,topic", "fname,dialog,summary,topic")),
        "column dialogue: missing from the header fname,dialog,summary,topic; "
        "add dialogue, with commas between columns",
    ),
    "semicolons": (
        "test",
        "fname;dialogue\ntest_0;#Person1#: 덥다.\n".encode(),
        "semicolons between the columns of the header fname;dialogue; put commas there (in Excel: CSV UTF-8)",
    ),
    "tabs": (
        "test",
        "fname\tdialogue\ntest_0\t#Person1#: 덥다.\n".encode(),
        "tabs between the columns of the header fname dialogue; put commas there (in Excel: CSV UTF-8)",
    ),
    "one column": (
        "test",
        b"fname dialogue\n",
        "column fname: missing from the header fname dialogue; add fname, with commas between columns",
    ),
    "train with numbered summaries only": (
        "train",
        edited(TRAIN, ("fname,dialogue,summary,topic", "fname,dialogue,summary1,topic")),
        "column summary: missing from the header fname,dialogue,summary1,topic; "
        "add summary, with commas between columns",
    ),
    "dev without references": (
        "dev",
        TEST.encode(),
        "column summary: missing from the header fname,dialogue; add summary, with commas between columns",
    ),
    "dev with both kinds of references": (
        "dev",
        edited(DEV, ("summary1,summary2", "summary,summary1")),
        "columns summary and summary1: two ways to give references; keep summary, or summary1, summary2, ...",
    ),
    "duplicate column": (
        "train",
        edited(TRAIN, ("summary,topic", "summary,summary")),
        "column summary: 2 times in the header; keep one",
    ),
    "duplicate fname": (
        "train",
        edited(TRAIN, ("train_1", "train_0")),
        "row train_0 (line 4), column fname: a row above has it too; give each row a name of its own",
    ),
    "empty fname": (
        "train",
        edited(TRAIN, ("train_1", " ")),
        "line 4, column fname: empty; give each row a name of its own",
    ),
    "empty dialogue": (
        "train",
        edited(TRAIN, ("#Person1#: 늦겠다. #Person2#: 뛰자.", '" \n\u3000"')),
        "row train_1 (line 4), column dialogue: empty; write the dialogue or delete the row",
    ),
    "no speaker": (
        "test",
        edited(TEST, ("#Person1#: 덥다.", "오늘은 #Person1#에게 덥다.")),
        "row test_0 (line 2), column dialogue: no speaker tag; begin each turn with #Person1#: or #Person2#:",
    ),
    "empty summary": (
        "train",
        edited(TRAIN, ("두 사람은 뛰기로 합니다.", "")),
        "row train_1 (line 4), column summary: empty; write the summary or delete the row",
    ),
    "a summary of nothing that is seen": (
        "train",
        edited(TRAIN, ("두 사람은 뛰기로 합니다.", "\u200b")),
        "row train_1 (line 4), column summary: empty; write the summary or delete the row",
    ),
    "empty second reference": (
        "dev",
        edited(DEV, ("#Person1#이 배고파합니다.", " ")),
        "row dev_0 (line 2), column summary2: empty; write the summary or delete the row",
    ),
    "too many fields": (
        "train",
        edited(TRAIN, ("두 사람은 뛰기로", "늦은, 두 사람은 뛰기로")),
        "row train_1 (line 4): 5 fields where the header has 4; "
        "put fields that hold commas or newlines in quotation marks",
    ),
    "too few fields": (
        "train",
        edited(TRAIN, (",지각", "")),
        "row train_1 (line 4): 3 fields where the header has 4; "
        "put fields that hold commas or newlines in quotation marks",
    ),
    "a ragged row without fname": (
        "test",
        TEST.encode() + b"\n,,x\n",
        "line 4: 3 fields where the header has 2; put fields that hold commas or newlines in quotation marks",
    ),
    "unterminated quote": (
        "test",
        TEST.encode() + '\ntest_1,"#Person1#: 춥다.\n#Person2#: 응.\n'.encode(),
        "line 4: the quotation marks of the row that starts here do not match; "
        'close the one that opens a field and write those within as ""',
    ),
    "unescaped quote": (
        "train",
        edited(TRAIN, ('"#Person1#: 우산', '"#Person1#: "우산"')),
        "line 2: the quotation marks of the row that starts here do not match; "
        'close the one that opens a field and write those within as ""',
    ),
    "a quote that swallows a long file": (
        "test",
        TEST.encode() + b'test_1,"#Person1#: ' + b"a" * 200_000,
        "line 3: the quotation marks of the row that starts here do not match; "
        'close the one that opens a field and write those within as ""',
    ),
    "NUL character": (
        "train",
        edited(TRAIN, ("뛰자", "뛰\0자")),
        "line 4: a NUL character; remove it or export the table again",
    ),
    "CP949": (
        "test",
        TEST.encode("cp949"),
        "line 2, byte 33: not UTF-8 but probably CP949; save it as UTF-8 (in Excel: CSV UTF-8)",
    ),
    "UTF-16": (
        "test",
        TEST.encode("utf-16"),
        "line 1, byte 0: not UTF-8 but UTF-16; save it as UTF-8 (in Excel: CSV UTF-8)",
    ),
    "UTF-16 without a byte order mark": (
        "test",
        b"fname,dialogue\n".decode().encode("utf-16-le"),
        "line 1: not UTF-8 but UTF-16; save it as UTF-8 (in Excel: CSV UTF-8)",
    ),
    "a blank before quotation marks": (
        "train",
        edited(TRAIN, ('train_0,"', 'train_0, "')),
        "row train_0 (line 2): 2 fields where the header has 4; leave no blank between a comma and the quotation mark "
        "behind it",
    ),
    "a cell without end": (
        "test",
        TEST.encode() + b'test_1,"#Person1#: ' + b"a" * LARGEST,
        "line 3: the row that starts here has a cell of more than 10,000,000 characters; shorten it, or close its "
        "quotation mark",
    ),
}


@pytest.mark.parametrize(("split", "table", "message"), BROKEN.values(), ids=BROKEN)
def test_broken_table_is_one_line_and_leaves_everything_as_it_was(
    workspace: Path, capsys: pytest.CaptureFixture[str], split: str, table: bytes, message: str
) -> None:
    (workspace / "data" / "sample" / f"{split}.csv").write_bytes(table)
    before = contents(workspace)
    capsys.readouterr()
    with pytest.raises(SystemExit) as stop:
        run_stage(ingest.main)
    assert stop.value.code == 1
    assert capsys.readouterr() == ("", f"error: data/sample/{split}.csv: {message}\n")
    assert contents(workspace) == before


def test_missing_file_and_folder(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = contents(workspace / "data" / "ingested")
    table = workspace / "data" / "sample" / "test.csv"
    table.unlink()
    with pytest.raises(SystemExit):
        run_stage(ingest.main)
    table.mkdir()
    with pytest.raises(SystemExit):
        run_stage(ingest.main)
    assert capsys.readouterr().err.splitlines() == [
        "error: data/sample/test.csv: not found; put the table there or set data.source to its folder",
        "error: data/sample/test.csv: cannot be read (Is a directory); put a CSV file there",
    ]
    assert contents(workspace / "data" / "ingested") == before


def test_on_the_command_line_a_broken_table_ends_without_traceback_or_output(tmp_path: Path) -> None:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(SAMPLE, tmp_path / "data" / "sample")
    table = tmp_path / "data" / "sample" / "train.csv"
    table.write_bytes(table.read_bytes().replace(b"train_0,", b"train_1,"))
    before = contents(tmp_path)
    stage = subprocess.run(
        [sys.executable, "-m", "stages.ingest"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert stage.returncode == 1
    assert stage.stderr == (
        "error: data/sample/train.csv: row train_1 (line 10), column fname: a row above has it too; "
        "give each row a name of its own\n"
    )
    assert contents(tmp_path) == before


def test_sample_tables_pass() -> None:
    tables = {split: read_table(SAMPLE / f"{split}.csv", split) for split in ("train", "dev", "test")}
    assert {split: len(table) for split, table in tables.items()} == {"train": 80, "dev": 16, "test": 16}
    assert [reference_columns(table) for table in tables.values()] == [
        ["summary"],
        ["summary1", "summary2", "summary3"],
        ["summary1", "summary2", "summary3"],
    ]


def test_values_are_text_exactly_as_in_the_file(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(
        b"\xef\xbb\xbffname,dialogue,summary,topic\r\n"
        b'007,"#Person1#: a \r\n#Person2#: b\rc\n",NA,None\r\n'
        b"\r\n"
        b'nan,"Person1: said ""x""",1.50, \r\n'
    )
    assert read_table(path, "train").to_dict("split") == {
        "index": [0, 1],
        "columns": ["fname", "dialogue", "summary", "topic"],
        "data": [
            ["007", "#Person1#: a \r\n#Person2#: b\rc\n", "NA", "None"],
            ["nan", 'Person1: said "x"', "1.50", " "],
        ],
    }


@pytest.mark.parametrize("turn", ["#사람1#: 네", "Person1: 네", "#Person1#： 네", "#Person 1# : 네", "음\\nPerson2:네"])
def test_noisy_speaker_tags_are_for_cleaning_to_mend(tmp_path: Path, turn: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"fname,dialogue\ntest_0,{turn}\n", encoding="utf-8")
    assert read_table(path, "test")["dialogue"].tolist() == [turn]


def numbered(rows: int) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "fname": [f"train_{i}" for i in range(rows)],
            "dialogue": [f"#Person1#: {i}\n#Person2#: 네" for i in range(rows)],
            "summary": [f"요약 {i}" for i in range(rows)],
        },
        dtype="str",
    )


def test_a_table_is_read_and_written_in_batches(tmp_path: Path) -> None:
    path, copy = tmp_path / "table.csv", tmp_path / "copy.csv"
    table = numbered(2 * BATCH + 1)
    write_table(table, path)
    stream = open_table(path, "train")
    sizes = []
    with writing_table(copy, stream.columns) as writer:
        for batch in stream.batches():
            assert list(batch.index) == list(range(len(batch)))
            sizes.append(len(batch))
            writer.write(batch)
        assert not copy.exists()
    assert sizes == [BATCH, BATCH, 1]
    assert copy.read_bytes() == path.read_bytes()
    pd.testing.assert_frame_equal(read_table(path, "train"), table, check_flags=False)
    assert stream.has("train_0") and not stream.has("train_-1")


def test_an_interrupted_table_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), writing_table(tmp_path / "table.csv", ["fname"]) as writer:
        writer.write(pd.DataFrame({"fname": ["a"]}))
        raise ZeroDivisionError
    assert contents(tmp_path) == {}


LATE = {
    "duplicate fname": ("train_2400", "train_3", "row train_3 (line 4802), column fname: a row above has it too; "),
    "no speaker": (
        "#Person1#: 2400\n#Person2#: 네",
        "\n2400",
        "row train_2400 (line 4802), column dialogue: no speaker tag; ",
    ),
    "ragged": ("요약 2400", "요약, 2400", "row train_2400 (line 4802): 4 fields where the header has 3; "),
    "quotes": ('train_2400,"', "train_2400,", "row train_2400 (line 4802): 2 fields where the header has 3; "),
    "unterminated": (
        "요약 2400\n",
        '"요약 2400\n',
        "line 4802: the quotation marks of the row that starts here do not match; ",
    ),
    "NUL": ("요약 2400", "요약\0 2400", "line 4803: a NUL character; "),
}


@pytest.mark.parametrize(("old", "new", "message"), LATE.values(), ids=LATE)
def test_errors_far_down_name_the_line(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "table.csv"
    write_table(numbered(2500), path)
    text = path.read_text(encoding="utf-8")
    assert text.count(old) == 1
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_table(path, "train")
    assert str(error.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("broken", ["나".encode("cp949"), b"\xff"])
def test_bytes_that_are_not_utf_8_are_found_far_down(tmp_path: Path, broken: bytes) -> None:
    path = tmp_path / "table.csv"
    write_table(numbered(2500), path)
    data = path.read_bytes()
    place = data.index("요약 2400".encode())
    path.write_bytes(data[:place] + broken + data[place:])
    with pytest.raises(UserError) as error:
        read_table(path, "train")
    assert str(error.value) == (f"{path}: line 4803, byte {place}: not UTF-8; save it as UTF-8 (in Excel: CSV UTF-8)")


def test_columns_come_in_order_and_others_are_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        ",source,topic,summary10,summary2,notes,,dialogue,fname\n0,original,날씨,열,둘,x,y,#Person1#: 덥다.,dev_0\n",
        encoding="utf-8",
    )
    with caplog.at_level(logging.INFO):
        table = read_table(path, "dev")
    assert list(table.columns) == ["fname", "dialogue", "summary2", "summary10", "topic", "source"]
    assert table.iloc[0].tolist() == ["dev_0", "#Person1#: 덥다.", "둘", "열", "날씨", "original"]
    assert table.attrs["ignored_columns"] == ["", "notes", ""]
    assert caplog.messages == [f"{path}: columns ignored (3): (unnamed), notes, (unnamed)"]


def test_header_alone_is_allowed_where_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_table(pd.DataFrame(columns=["fname", "dialogue", "summary", "topic", "source"]), path)
    assert path.read_bytes() == b"fname,dialogue,summary,topic,source\n"
    table = read_table(path, "train", allow_empty=True)
    assert list(table.columns) == ["fname", "dialogue", "summary", "topic", "source"]
    assert len(table) == 0
    assert references(table) == []
    with pytest.raises(UserError, match="a header without rows"):
        read_table(path, "train")


def test_references_are_in_order_and_blank_ones_are_none() -> None:
    table = pd.DataFrame(
        [["a", "둘", "하나"], ["b", " ", "하나"], ["c", "", ""]], columns=["fname", "summary2", "summary1"]
    )
    assert references(table) == [["하나", "둘"], ["하나"], []]
    assert references(table[["fname"]]) == [[], [], []]
    assert reference_columns(table[["fname"]]) == []


def test_long_names_do_not_break_the_error_line(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f'fname,dialogue\n"a\nb{"c" * 100}",\n', encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_table(path, "test")
    name = "a b" + "c" * 76 + "…"
    assert str(error.value) == (
        f"{path}: row {name} (line 2), column dialogue: empty; write the dialogue or delete the row"
    )


def test_missing_values_are_never_written(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text("as it was")
    with pytest.raises(TypeError, match="nan is not text"):
        write_table(pd.DataFrame({"fname": ["a"], "summary": [float("nan")]}), path)
    assert contents(tmp_path) == {"table.csv": b"as it was"}


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0")).map(partial(unicodedata.normalize, "NFC"))
NOISY_TEXT = st.one_of(TEXT, st.text(st.sampled_from('",\r\n\\ #가')))


@settings(deadline=None)
@given(st.lists(st.tuples(NOISY_TEXT, NOISY_TEXT, NOISY_TEXT), min_size=1, max_size=5))
def test_writing_and_reading_give_the_same_strings(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, str, str]]
) -> None:
    path = tmp_path_factory.getbasetemp() / "round_trip.csv"
    table = pd.DataFrame(
        [
            [f"{i}{topic}", f"{dialogue}#Person1#:{dialogue}", f"{summary}.", topic]
            for i, (dialogue, summary, topic) in enumerate(rows)
        ],
        columns=["fname", "dialogue", "summary", "topic"],
        dtype="str",
    )
    write_table(table, path)
    pd.testing.assert_frame_equal(read_table(path, "train"), table, check_flags=False)
    written = path.read_bytes()
    write_table(read_table(path, "train"), path)
    assert path.read_bytes() == written


def test_quotes_are_minimal_and_lines_end_in_lf(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    write_table(pd.DataFrame({"fname": ["a", "b"], "dialogue": ["x\ry", 'z "q", w']}), path)
    assert path.read_bytes() == b'fname,dialogue\na,"x\ry"\nb,"z ""q"", w"\n'


def decomposed(text: str) -> str:
    return unicodedata.normalize("NFD", text)


LEFT_BEHIND = {
    "two byte order marks": ("\ufeff\ufeff" + TRAIN, {"byte_order_marks": 1}),
    "a mark in a quoted name": (TRAIN.replace("fname,", '"\ufefffname",', 1), {"header_blanks": 1}),
    "blanks after the header's commas": (
        TRAIN.replace("fname,dialogue,summary,topic", "fname, dialogue,\tsummary, topic "),
        {"header_blanks": 3},
    ),
    **{
        f"{name} after all commas": (
            'fname,~"dialogue",~summary,~topic\n'
            'train_0,~"#Person1#: 우산 있어?\n#Person2#: 응, 빌려줄게.",~"#Person2#가 우산을 빌려줍니다.",~우산\n'
            "train_1,~#Person1#: 늦겠다. #Person2#: 뛰자.,~두 사람은 뛰기로 합니다.,~지각\n".replace("~", blank),
            {"header_blanks": 3},
        )
        for name, blank in (("tabs", "\t"), ("no-break spaces", "\u00a0"), ("blanks of all kinds", " \t\u3000"))
    },
    "blanks after all commas": (
        'fname, "dialogue", summary, topic\n'
        'train_0, "#Person1#: 우산 있어?\n#Person2#: 응, 빌려줄게.", #Person2#가 우산을 빌려줍니다., 우산\n'
        "train_1, #Person1#: 늦겠다. #Person2#: 뛰자., 두 사람은 뛰기로 합니다., 지각\n",
        {"header_blanks": 3},
    ),
    "a name that hides a character": (TRAIN.replace(",dialogue", ",\u200bdialogue"), {"header_blanks": 1}),
    "rows of commas anywhere": (
        ",,,\n"
        + TRAIN.replace("\ntrain_0", "\n, ,,\n\ntrain_0").replace("\ntrain_1", "\n,,\ntrain_1")
        + ",,,,,,\n\r\n",
        {"blank_rows": 6},
    ),
    "rows of commas and what nobody sees": (
        TRAIN.replace("\ntrain_0", "\n\u200b,\u200b ,,\ufeff\ntrain_0") + "\u200b,,,\n",
        {"blank_rows": 2},
    ),
    "an end-of-file mark": (TRAIN + "\x1a", {"end_marks": 1}),
    "an end-of-file mark behind the last cell": (TRAIN.removesuffix("\n") + "\x1a", {"end_marks": 1}),
    "an end-of-file mark on a line": (TRAIN + "\x1a\r\n", {"end_marks": 1}),
    "empty columns at the end": (
        TRAIN.replace("summary,topic\n", "summary,topic,,\n").replace("합니다.,지각", "합니다.,지각,,"),
        {"blank_cells": 1},
    ),
    "commas at the end of rows": (TRAIN.replace("지각\n", "지각, ,\n"), {"blank_cells": 1}),
    "the separator named": ("sep=,\n" + TRAIN, {"separator_lines": 1}),
    "two tables put together": (
        "\ufeff" + TRAIN.replace("train_1", "\ufefffname,dialogue,summary,topic\ntrain_1"),
        {"byte_order_marks": 1, "repeated_headers": 1},
    ),
    "decomposed Hangul": (decomposed(TRAIN), {"decomposed_texts": 6}),
}


@pytest.mark.parametrize(("text", "mended"), LEFT_BEHIND.values(), ids=LEFT_BEHIND)
def test_what_spreadsheets_leave_is_mended_counted_and_said(
    workspace: Path, caplog: pytest.LogCaptureFixture, text: str, mended: dict[str, int]
) -> None:
    good = contents(workspace / "data" / "ingested")
    path = workspace / "data" / "sample" / "train.csv"
    path.write_text(text, encoding="utf-8", newline="")
    with caplog.at_level(logging.INFO):
        ingest.main()
    assert contents(workspace / "data" / "ingested") == good
    said = [message for message in caplog.messages if message.startswith("data/sample/train.csv: ")]
    for name, count in mended.items():
        assert f"data/sample/train.csv: {MENDED[name]} ({count})" in said
    assert json.loads(paths.INGEST_METRICS.read_text(encoding="utf-8"))["train"]["mended"] == mended


def test_a_good_table_has_nothing_mended(workspace: Path) -> None:
    assert "mended" not in paths.INGEST_METRICS.read_text(encoding="utf-8")


def test_a_large_cell_is_read_and_said(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = workspace / "data" / "sample" / "train.csv"
    path.write_text(TRAIN.replace("응, 빌려줄게.", "응, " * 100_000), encoding="utf-8")
    with caplog.at_level(logging.INFO):
        ingest.main()
    assert len(read_table(Path("data/ingested/train.csv"), "train")["dialogue"][0]) > 300_000
    assert f"data/sample/train.csv: {MENDED['large_cells']} (1)" in caplog.messages


def test_a_decomposed_name_in_the_header_has_no_blanks(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(decomposed("fname,dialogue,메모\na,#Person1#: 네,b\n"), encoding="utf-8")
    stream = open_table(path, "test")
    assert [frame["dialogue"].tolist() for frame in stream.batches()] == [["#Person1#: 네"]]
    assert (stream.ignored_columns, stream.mended) == (["메모"], {"decomposed_texts": 2})


def test_blanks_within_cells_stay_where_those_in_front_go(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(
        'fname,\tdialogue,\ttopic\na,\t"#Person1#: ""네"",\t응,\n\t""왜""\n"" ,\t",\t5" 자, \n'
        'b" ,\t"#Person1#: 네,\t그래",\t"",\n',
        encoding="utf-8",
    )
    assert read_table(path, "test").to_numpy().tolist() == [
        ["a", '#Person1#: "네",\t응,\n\t"왜"\n" ,\t', '5" 자'],
        ['b" ', "#Person1#: 네,\t그래", ""],
    ]


@pytest.mark.parametrize("blank", ["fname ,dialogue", "fname,dialogue "])
def test_blanks_before_commas_are_named(tmp_path: Path, blank: str) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f'{blank},topic\na,#Person1#: 네,b\nc ,"#Person1#: 네\n#Person2#: 응" ,d\n', encoding="utf-8")
    with pytest.raises(UserError) as error:
        read_table(path, "test")
    assert str(error.value) == (
        f"{path}: line 3: the row that starts here has a blank between a quotation mark and the comma behind it; "
        "leave none there"
    )


def test_names_that_differ_in_composition_alone_are_one(tmp_path: Path) -> None:
    path = tmp_path / "table.csv"
    path.write_text(f"fname,dialogue\n가,#Person1#: 네\n{decomposed('가')},#Person1#: 네\n", encoding="utf-8")
    with pytest.raises(UserError, match=r"row 가 \(line 3\), column fname: a row above has it too"):
        read_table(path, "test")
