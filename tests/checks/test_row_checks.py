from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from stages.checks.row_checks import Finding, Findings, check_rows
from stages.core.errors import UserError
from stages.core.params import load_params
from stages.corpus.tables import Split

ROOT = Path(__file__).parents[2]
DEFAULTS = load_params(ROOT / "params.yaml").check
GOOD = {
    "fname": "train_0",
    "dialogue": "#Person1#: 내일 어디서 만날까요?\n#Person2#: 학교 앞이요. API 문서도 가져갈게요.",
    "summary": "#Person1#과 #Person2#는 내일 학교 앞에서 만납니다.",
    "topic": "약속",
}


def findings(**actions: Any) -> Findings:
    return Findings(DEFAULTS.model_copy(update=actions), Path("data/clean"))


@pytest.mark.parametrize("table", ["train", "dev", "test"])
def test_nothing_is_found_in_a_good_row(table: Split) -> None:
    strict = {check: "stop" for check, value in DEFAULTS.model_dump().items() if isinstance(value, str)}
    assert list(check_rows([GOOD], table, findings(**strict))) == [GOOD]


PROBLEMS = {
    "empty_summary": [({"summary": "#Person1# 12."}, "summary has no letters")],
    "long_summary": [({"summary": "#Person1#은 " + "네 " * 40}, "summary has 91 characters, its dialogue 57")],
    "unknown_speaker": [
        (
            {"summary": "#Person3#과 #Person1#이 #Person4#를 기다려서 #Person3#이 웃어요."},
            "summary names #Person3#, #Person4#, who does not speak",
        ),
        # A tag within a turn is somebody who is spoken of.
        (
            {"dialogue": "#Person1#: #Person2#는 학교에 있어요.", "summary": "#Person2#는 학교에 있어요."},
            "summary names #Person2#, who does not speak",
        ),
    ],
    "not_korean": [
        (
            {"dialogue": "#Person1#: Where shall we meet? 네"},
            "dialogue has 0.06 Hangul among its letters, below check.min_korean_share",
        ),
        (
            {"summary": "#Person1# meets #Person2#."},
            "summary has 0.00 Hangul among its letters, below check.min_korean_share",
        ),
    ],
    "first_speaker": [
        (
            {"dialogue": "#Person2#: 여보세요?\n#Person1#: 저예요. 학교 앞인데 #Person2#는 어디예요?"},
            "",
        ),
        (
            {"dialogue": "(전화)\n#Person1#: 여보세요?\n#Person2#: 네, 누구세요? 아, 오랜만이에요."},
            "",
        ),
    ],
}
FIRST = "dialogue does not start with #Person1#:"


@pytest.mark.parametrize(
    ("check", "changes", "detail"),
    [(check, changes, detail or FIRST) for check, cases in PROBLEMS.items() for changes, detail in cases],
)
def test_what_is_found_is_told_and_done(check: str, changes: dict[str, str], detail: str) -> None:
    row = GOOD | changes
    others = dict.fromkeys(PROBLEMS, "ignore")

    ignoring = findings(**others)
    assert list(check_rows([row], "train", ignoring)) == [row]
    assert not ignoring.warned

    warning = findings(**others | {check: "warn"})
    assert list(check_rows([row, GOOD], "train", warning)) == [row, GOOD]
    assert warning.warned == [Finding("train_0", "train", check, detail)]
    assert not warning.removed

    removing = findings(**others | {check: "remove"})
    assert list(check_rows([row, GOOD], "train", removing)) == [GOOD]
    assert removing.removed == [Finding("train_0", "train", check, detail)]
    assert not removing.warned

    message = (
        f"data/clean/train.csv: row train_0: {detail}; mend the row in data.source's table, or set check.{check} "
        "to warn or remove"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        list(check_rows([row], "train", findings(**others | {check: "stop"})))


def test_rows_of_dev_and_test_are_never_removed() -> None:
    row = {"fname": "dev_0", "dialogue": GOOD["dialogue"], "summary1": GOOD["summary"], "summary2": "#Person3#: 네"}
    found = findings(unknown_speaker="remove")
    assert list(check_rows([row], "dev", found)) == [row]
    assert found.warned == [
        Finding("dev_0", "dev", "unknown_speaker", "summary2 names #Person3#, who does not speak"),
    ]
    assert not found.removed


def test_a_row_is_removed_once() -> None:
    row = GOOD | {"summary": "-", "dialogue": "#Person2#: 네"}
    found = findings(empty_summary="remove", first_speaker="remove")
    assert list(check_rows([row], "train", found)) == []
    assert [finding.check for finding in found.removed] == ["empty_summary"]


def test_a_test_row_may_have_no_summary() -> None:
    rows = [{"fname": "test_0", "dialogue": GOOD["dialogue"]}, {**GOOD, "summary": " "}]
    found = findings()
    assert list(check_rows(rows, "test", found)) == rows
    assert not found.warned


PRIVATE = GOOD | {
    "dialogue": "#Person1#: 제 번호는 010-1234-5678, 메일은 kim@example.com요.\n#Person2#: 02-123-4567요? #SSN#요?",
    "summary": "#Person1#의 번호는 010-1234-5678이다.",
    "topic": "010-1234-5678",
}
KINDS = "dialogue has 1 Email, 2 PhoneNumber{0}; summary has 1 PhoneNumber{1}; topic has 1 PhoneNumber{1}"


def test_personal_data_is_told_by_kind_alone() -> None:
    found = findings(personal_data="warn")
    assert list(check_rows([PRIVATE], "train", found)) == [PRIVATE]
    assert found.warned == [Finding("train_0", "train", "personal_data", KINDS.format("", ""))]


def test_personal_data_is_masked_in_training_rows() -> None:
    found = findings(personal_data="mask")
    assert list(check_rows([PRIVATE], "train", found)) == [
        {
            "fname": "train_0",
            "dialogue": "#Person1#: 제 번호는 #PhoneNumber#, 메일은 #Email#요.\n#Person2#: #PhoneNumber#요? #SSN#요?",
            "summary": "#Person1#의 번호는 #PhoneNumber#이다.",
            "topic": "#PhoneNumber#",
        }
    ]
    assert found.warned == [Finding("train_0", "train", "personal_data", KINDS.format(", masked", ", masked"))]


def test_references_stay_as_they_are() -> None:
    found = findings(personal_data="mask")
    (row,) = check_rows([PRIVATE], "dev", found)
    assert "#Email#" in row["dialogue"]
    assert row == PRIVATE | {"dialogue": row["dialogue"]}
    assert found.warned == [Finding("train_0", "dev", "personal_data", KINDS.format(", masked", ""))]


def test_personal_data_stops_the_run_without_being_shown() -> None:
    message = (
        f"data/clean/train.csv: row train_0: {KINDS.format('', '')}; mend the row in data.source's table, or set "
        "check.personal_data to warn or mask"
    )
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        list(check_rows([PRIVATE], "train", findings(personal_data="stop")))


def test_personal_data_may_be_ignored() -> None:
    found = findings(personal_data="ignore")
    assert list(check_rows([PRIVATE], "train", found)) == [PRIVATE]
    assert not found.warned
