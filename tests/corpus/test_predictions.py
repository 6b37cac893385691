from __future__ import annotations

import logging
import unicodedata
from pathlib import Path

import pandas as pd
import pytest

from stages.core.errors import UserError
from stages.corpus.predictions import read_predictions, write_submission

FNAMES = ["test_0", "test_2", "test_10"]


def predictions(*summaries: str | None, fnames: list[str] = FNAMES) -> pd.DataFrame:
    return pd.DataFrame({"fname": fnames, "summary": list(summaries)})


def write(frame: pd.DataFrame, path: Path, index: bool = True) -> bytes:
    write_submission(frame, FNAMES, path, index)
    return path.read_bytes()


def test_the_published_form_has_an_unnamed_index(tmp_path: Path) -> None:
    written = write(predictions("갔다.", "왔다, 그리고\n갔다.", '"네"라고 했다.'), tmp_path / "submission.csv")
    assert written.decode() == (
        ',fname,summary\n0,test_0,갔다.\n1,test_2,"왔다, 그리고\n갔다."\n2,test_10,"""네""라고 했다."\n'
    )


def test_the_index_can_be_left_out(tmp_path: Path) -> None:
    written = write(predictions("가", "나", "다"), tmp_path / "submission.csv", index=False)
    assert written.decode() == "fname,summary\ntest_0,가\ntest_2,나\ntest_10,다\n"


def test_rows_stand_in_the_order_of_the_table(tmp_path: Path) -> None:
    frame = predictions("다", "가", "나", fnames=["test_10", "test_0", "test_2"])
    written = write(frame, tmp_path / "submission.csv")
    assert written.decode() == ",fname,summary\n0,test_0,가\n1,test_2,나\n2,test_10,다\n"


@pytest.mark.parametrize(
    ("frame", "problem"),
    [
        (predictions("가", None, None), "no summary: test_2 (rows: 2)"),
        (predictions("가", "나", fnames=FNAMES[:2]), "not predicted: test_10 (rows: 1)"),
        (
            predictions(*"가나다라", fnames=[*FNAMES, "dev_0"]),
            "predicted but not in the table: dev_0 (rows: 1)",
        ),
        (predictions(*"가나다라", fnames=[*FNAMES, "test_2"]), "predicted twice: test_2 (rows: 1)"),
    ],
)
def test_a_submission_that_is_not_whole_is_not_written(frame: pd.DataFrame, problem: str, tmp_path: Path) -> None:
    path = tmp_path / "submission.csv"
    path.write_text("as it was", encoding="utf-8")
    with pytest.raises(UserError) as caught:
        write(frame, path)
    assert str(caught.value) == f"{path}: {problem}; run `dvc repro` to predict again"
    assert [(file.name, file.read_text(encoding="utf-8")) for file in tmp_path.iterdir()] == [
        ("submission.csv", "as it was")
    ]


def test_an_empty_summary_is_written_and_said(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "submission.csv"
    with caplog.at_level(logging.WARNING):
        written = write(predictions("가", "", " "), path)
    assert written.decode() == ",fname,summary\n0,test_0,가\n1,test_2,\n2,test_10, \n"
    assert caplog.messages == [f"{path}: empty summary: test_2 (rows: 2)"]


def test_predictions_are_read_in_the_order_of_the_table(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text('fname,summary\ntest_10,NA\ntest_0,"가, 나"\ntest_2,\n', encoding="utf-8")
    assert read_predictions(path, FNAMES) == ["가, 나", "", "NA"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "fname,summary\ntest_0,가\ntest_2,나\n",
            "not predicted: test_10 (rows: 1); run `dvc repro` to predict again",
        ),
        ("fname,text\ntest_0,가\n", "no column summary; predictions have the columns fname and summary"),
        (None, "not found; run `dvc repro` to predict"),
    ],
)
def test_predictions_that_cannot_be_read(text: str | None, message: str, tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    with pytest.raises(UserError) as caught:
        read_predictions(path, FNAMES)
    assert str(caught.value) == f"{path}: {message}"


def test_decomposed_names_and_summaries_are_the_composed_ones(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text(unicodedata.normalize("NFD", "\ufefffname, summary\n나, 왔다.\n가, 갔다.\n,\n"), encoding="utf-8")
    assert read_predictions(path, ["가", "나"]) == ["갔다.", "왔다."]
    assert read_predictions(path, [unicodedata.normalize("NFD", name) for name in ("가", "나")]) == ["갔다.", "왔다."]
    write_submission(predictions("갔다.", fnames=[unicodedata.normalize("NFD", "가")]), ["가"], path, index=False)
    assert path.read_text(encoding="utf-8") == "fname,summary\n가,갔다.\n"


def test_broken_predictions_are_one_line(tmp_path: Path) -> None:
    path = tmp_path / "test.csv"
    path.write_text('fname,summary\ntest_0,"가\n', encoding="utf-8")
    with pytest.raises(UserError, match=r"test\.csv: line 2: the quotation marks of the row that starts here"):
        read_predictions(path, ["test_0"])
