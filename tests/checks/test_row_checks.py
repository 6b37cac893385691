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
    "doubtful_tag": [
        (
            {"dialogue": "#Person1#: 왜? #Person2# 응, 그래. 그러니까 내일 학교 앞에서 보자니까."},
            "dialogue, line 1: #Person2# within the line without a colon",
        ),
        (
            {"dialogue": "#Person1#: 왜?\n#Person2#, 응. 그리고 걔가 #Person2#; 그래. 내일 학교에서 봐."},
            "dialogue, line 2: #Person2# within the line without a colon, and 1 more",
        ),
        (
            {"dialogue": "#Person1#: 왜?\n#Person2#안녕. 내일 학교 앞에서 보기로 한 거 맞지?"},
            "dialogue, line 2: #Person2# at its start without a colon",
        ),
        (
            {"dialogue": "#Person1#: 네, Person2: 응. 내일 학교 앞에서 보기로 한 거 맞지?"},
            "dialogue, line 1: Person2 without its signs",
        ),
        (
            {"dialogue": "#Person1#: 네.\nSpeaker 2: 응.\n화자1: 네.\nPersom2: 응. 내일 학교에서 보기로 한 거지?"},
            "dialogue, line 2: Speaker 2 without its signs, and 2 more",
        ),
        (
            {"dialogue": "#Person1#: 네.\nB: 응. 내일 학교 앞에서 세 시에 보기로 한 거 맞지?"},
            "dialogue, line 2: a label and a colon, which are no speaker tag",
        ),
        (
            {"dialogue": "#Person1#: 왜?\n#Person2# 이 책은 내일 학교 앞에서 보기로 했지? 그랬지? #Person1# 와!"},
            "dialogue, line 2: #Person1# within the line without a colon, and 1 more",
        ),
        (
            {"dialogue": "#Person1#: 안녕하세요 #Person2# 네 내일 학교 앞에서 세 시에 보기로 한 거 맞지?"},
            "dialogue, line 1: #Person2# within the line without a colon",
        ),
        (
            {"dialogue": "#Person1#: 왜?\n※#Person2#※: 응. 내일 학교 앞에서 보기로 한 거 맞지?"},
            "dialogue, line 2: #Person2# between other signs",
        ),
        *(
            (
                {"dialogue": f"#Person1#: 내일 학교 앞에서 세 시에 보기로 한 거 맞지{text} 그래.\n#Person2#: 응."},
                "dialogue, line 1: #Person2# within the line without a colon",
            )
            for text in (
                "? [#Person2#] 응",
                "? (#Person2#) 응",
                "? #Person2#[웃음] 응",
                "? #Person2#- 응",
                "? #Person2#. 응",
                "? #Person2#, 이리 와",
                "?#Person2#응",
                "? | #Person2# | 응",
                ", #Person2# 응",
                "; #Person2# 응",
                " ♥ #Person2# 응",
                "^^ #Person2# 응",
                " OK #Person2# 응",
                " 3 #Person2# 응",
                " #Email# #Person2# 응",
            )
        ),
        (
            {"dialogue": "#Person1#: 왜?\n| #Person2# | 응. 내일 학교 앞에서 보기로 한 거 맞지?"},
            "dialogue, line 2: #Person2# between other signs",
        ),
        *(
            (
                {"dialogue": f"#Person1#: 왜? {tag}: 응. 내일 학교 앞에서 세 시에 보기로 한 거지? 그래."},
                f"dialogue, line 1: {tag} may be a misspelt tag",
            )
            for tag in ("#P2#", "#퍼슨2#", "#Presom2#", "Peson2")
        ),
        (
            {"dialogue": "#Person1#: 사람1도 TED person1: 강연도 내일 학교 앞에서 세 시에 볼 거지? 그래."},
            "dialogue, line 1: 사람1 without its signs, and 1 more",
        ),
    ],
    "unsigned_speaker": [
        ({"summary": "사람 2만 학교에 가고 나머지는 남습니다."}, "summary names 사람 2 without signs"),
        ({"summary": "Person1과 화자 2는 내일 학교에서 만납니다."}, "summary names Person1, 화자 2 without signs"),
        ({"summary": "#Peson1#은 남습니다."}, "summary has #Peson1#, which may be a misspelt tag"),
        (
            {"summary": "아는 사람 1도, 사람1도 Person 5라는 게임을 한다."},
            "summary names 사람 1, 사람1, Person 5 without signs",
        ),
        ({"summary": "사람 1 학교에 가고 Person은 남습니다."}, "summary names 사람 1, Person without signs"),
    ],
    "preamble": [
        (
            {"dialogue": "다듬은 글은 다음과 같습니다:\n" + GOOD["dialogue"]},
            "dialogue begins with words about the text",
        ),
        (
            {"dialogue": "전화로 나눈 이야기:\n" + GOOD["dialogue"], "summary": "요약: " + GOOD["summary"]},
            "dialogue begins with words about the text; summary begins with words about the text",
        ),
        *(
            ({"summary": text + " " + GOOD["summary"]}, "summary begins with words about the text")
            for text in (
                "다음은 자연스럽게 고친 텍스트입니다:",
                "오탈자를 수정한 결과입니다:",
                "수정된 텍스트:",
                "아래와 같이 정리했습니다:",
                "출력:",
                "Corrected text:",
                "[요약]",
                "**요약**",
                "```text",
                "아래는 대화를 요약한 내용입니다.",
                "네, 요약해 드리겠습니다.",
                "**요약**:",
                "Sure! Here is the summary:",
                "대화 요약:",
                "최종 요약:",
                "### 요약\n",
                "요약",
                "물론입니다!",
                "네, 알겠습니다.",
                "요약을 작성했습니다:\n",
                "자연스럽게 다듬었습니다:\n",
                "위 대화를 요약하면:",
                "수정 결과는 다음과 같습니다\n\n",
                "수정 결과는 다음과 같습니다",
            )
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


@pytest.mark.parametrize(
    "changes",
    [
        {"dialogue": "#Person1#: #Person2#야, 다음은 어디야?\n#Person2#: 다음은 서울역입니다.\n#Person2#는 웃었다."},
        {"dialogue": "#Person1#: 사람 2명이 3:30에 와요. 사람 3이서요.\n#Person2#: 준비물: 김밥, 물. #Person1#도 와?"},
        {"dialogue": "#Person1#: 왔어! #Person2#가 왔어! #Person2#! 글은 썼어? 요약은 했어?\n#Person2#: 응."},
        {"summary": "사람 2명이 내용을 요약한 글을 읽고 #Person1#은 인사말이 길다고 합니다."},
        {"summary": "다음 주에 #Person1#과 #Person2#는 학교에서 만납니다."},
        {"summary": "요약 보고서를 정리한 두 사람은 요약하는 법을 안다."},
        {"summary": "내용을 알겠다는 #Person1#은 좋습니다만 하고 말한다: 그래."},
        {"summary": "사람1, 2명이 사람1~2명에게 사람2가지 유형을 https://x.com/person1/photo 에서 보여 준다."},
        {"dialogue": "#Person1#: 그 사람 1도 몰라. #Person2#에게서도, #Person1#, #Person2#만의 #Person2#은요?"},
        {"dialogue": "#Person1#: 고마워, #Person2#! #PhoneNumber#로 (#Person2#)이 전화했어요, #Person2#."},
        {"summary": "네 사람이 모여 글을 고칩니다."},
        {"summary": "Person of the year가 된 #Person1#은 Person1호선을 다음과 같이 소개합니다: 빠르다."},
        {"dialogue": "#Person1#: 왜? #Person2# 씨도요? 저는 #Person1# 입니다. 얘가 #Person2# 이에요.\n#Person2#: 응."},
    ],
)
def test_what_is_sure_is_not_found(changes: dict[str, str]) -> None:
    found = findings()
    list(check_rows([GOOD | changes], "train", found))
    kinds = {"doubtful_tag", "unsigned_speaker", "preamble"}
    assert [finding for finding in found.warned if finding.check in kinds] == []


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
