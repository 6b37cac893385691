from __future__ import annotations

import csv
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.cleaning import spelling
from stages.cleaning.jamo import compose, decompose, repairs
from stages.cleaning.spelling import correct
from stages.core.params import load_params
from stages.corpus.dialogue import MASK_OR_SPEAKER, MASKS

THRESHOLD = load_params().clean.typo_threshold
with Path("tests/data/spelling.csv").open(encoding="utf-8", newline="") as file:
    CASES = list(csv.DictReader(file))
PIECES = st.sampled_from(
    [case["text"] for case in CASES]
    + [f"#{mask}#" for mask in MASKS]
    + ["#Person1#: ", "\n", " ", "ㅋㅋ", "😀", "LTE", "3"]
)


def corrected(text: str, threshold: float = THRESHOLD) -> str:
    return correct([text], threshold)[0][0]


def test_precision_and_recall_are_as_measured() -> None:
    results = [text for text, _ in correct([case["text"] for case in CASES], THRESHOLD)]
    rows = list(zip(CASES, results, strict=True))
    wrong = [(case, result) for case, result in rows if case["kind"] != "clean"]
    right = sum(result == case["expected"] for case, result in wrong)
    changed = sum(result != case["text"] for case, result in rows)
    assert [result for case, result in rows if case["kind"] == "clean" and result != case["text"]] == []
    assert (len(wrong), len(rows) - len(wrong)) == (140, 195)
    assert right / len(wrong) >= 0.935
    assert right / changed >= 0.984


def test_only_the_typos_of_the_sample_are_corrected() -> None:
    lines: dict[str, None] = {}
    for path in sorted(Path("data/sample").glob("*.csv")):
        with path.open(encoding="utf-8", newline="") as file:
            for row in csv.DictReader(file):
                texts = (text for name, text in row.items() if name.startswith(("dialogue", "summary")))
                lines |= dict.fromkeys(line for text in texts for line in re.split(r"\n|\\n", text))
    results = [text for text, count in correct(list(lines), THRESHOLD) if count]
    expected = [
        "미루면 안 되나?",
        "그냥 김치전으로 할 수 있지",
        "제 말대로 이틀 안에",
        "나 어떡해!",
        "충분히 할 수 있어.",
        "며칠을 왜 외운",
    ]
    assert all(any(words in result for result in results) for words in expected)
    assert len(results) == 13


@pytest.mark.parametrize(
    ("text", "expected", "count"),
    [
        ("배경ㅇ로 산이 보이게 찍어 주세요.", "배경으로 산이 보이게 찍어 주세요.", 1),
        ("제ㅏ 먼저 전화드릴게요.", "제가 먼저 전화드릴게요.", 1),
        ("그러면 안되요.", "그러면 안 돼요.", 1),
        ("몇일 뒤에 갈께요.", "며칠 뒤에 갈게요.", 2),
        ("이건 혼자 할수없어.", "이건 혼자 할 수 없어.", 2),
        ("그 사람 은 학 교에 갔어요.", "그 사람은 학교에 갔어요.", 2),
    ],
)
def test_corrections_are_counted(text: str, expected: str, count: int) -> None:
    assert correct([text], THRESHOLD) == [(expected, count)]


@pytest.mark.parametrize(
    ("meant", "mistaken", "mended"),
    [
        ("다음 달에 아이를 낳을 예정이에요.", "이렇게 하는 게 낳을 것 같아요.", "이렇게 하는 게 나을 것 같아요."),
        ("혼자 살려고 집을 구했어요.", "집에 갈려고 나왔어요.", "집에 가려고 나왔어요."),
        ("강아지 안고 있는 아이가 제 동생이에요.", "그러지 안아도 괜찮아요.", "그러지 않아도 괜찮아요."),
        ("온수가 안 나와요.", "할수가 없어요.", "할 수가 없어요."),
        ("이 밤이 지나면 돼요.", "사 람이 많아요.", "사람이 많아요."),
    ],
)
def test_what_can_be_right_is_told_by_its_context(meant: str, mistaken: str, mended: str) -> None:
    assert corrected(meant) == meant
    assert corrected(mistaken) == mended


def test_a_higher_threshold_corrects_less_and_a_very_high_one_nothing() -> None:
    texts = [case["text"] for case in CASES if case["kind"] != "clean"]
    counts = [sum(count for _, count in correct(texts, threshold)) for threshold in (THRESHOLD, 14.0, 100.0)]
    assert counts[0] > counts[1] > counts[2] == 0


def test_tags_masks_newlines_and_what_is_not_korean_stay() -> None:
    dialogue = (
        "#Person1#: 이번 달 요금이 몇일에 나가요?\n\n"
        "#Person2#: #CardNumber#로 25일에 나갑니다. Wi-Fi도 쓸수 있어요!\n"
        "#Person1#: Ok, no problem at all."
    )
    assert correct([dialogue], THRESHOLD) == [(dialogue.replace("몇일", "며칠").replace("쓸수", "쓸 수"), 2)]


def test_english_is_unchanged() -> None:
    text = "#Person1#: Their is a typo hear , and it stays.\n#Person2#: Yes."
    assert correct([text, "", "\n"], THRESHOLD) == [(text, 0), ("", 0), ("\n", 0)]


def test_a_line_that_repeats_is_analysed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    analysed: list[str] = []
    read = spelling._read

    def spy(lines: Sequence[str], readings: int) -> object:
        analysed.extend(lines)
        return read(lines, readings)

    monkeypatch.setattr(spelling, "_read", spy)
    assert correct(["네, 알겠어요.\n네, 알겠어요.", "네, 알겠어요."], THRESHOLD)[1] == ("네, 알겠어요.", 0)
    assert analysed == ["네, 알겠어요."]


def test_corrected_text_stays() -> None:
    once = [text for text, _ in correct([case["text"] for case in CASES], THRESHOLD)]
    assert correct(once, THRESHOLD) == [(text, 0) for text in once]


@settings(max_examples=40, deadline=None)
@given(st.lists(st.one_of(PIECES, st.text("가나다됬수있는을 은이ㄱㅏㅇㅋ.?\n", max_size=12)), max_size=6).map("".join))
def test_any_text_keeps_its_tokens_and_once_corrected_stays(text: str) -> None:
    [(once, count)] = correct([text], THRESHOLD)
    assert correct([once], THRESHOLD) == [(once, 0)]
    assert (count == 0) == (once == text)
    assert MASK_OR_SPEAKER.findall(once) == MASK_OR_SPEAKER.findall(text)
    assert re.findall(r"[^ 가-힣ㄱ-ㅣ]", once) == re.findall(r"[^ 가-힣ㄱ-ㅣ]", text)


def test_importing_loads_no_language_model() -> None:
    code = "import sys, stages.cleaning.spelling; sys.exit('kiwipiepy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_syllables_are_composed_of_their_jamo() -> None:
    syllables = [chr(code) for code in range(ord("가"), ord("힣") + 1)]
    assert [compose(*decompose(syllable)) for syllable in syllables] == syllables
    assert decompose("닭") == ("ㄷ", "ㅏ", "ㄺ")


@pytest.mark.parametrize(
    ("line", "start", "end", "some"),
    [
        ("제ㅏ 책", 0, 2, {"제", "제가", "제나", "제하"}),
        ("학굥ㅔ서", 1, 3, {"교에", "굥", "굥에"}),
        ("하ㄱ로", 0, 2, {"하", "학", "하기", "하가"}),
        ("회의 ㅅ간에", 3, 4, {"", "시", "사"}),
        ("ㅎㅏㄴ국", 0, 3, {"한"}),
    ],
)
def test_stray_jamo_are_completed_in_every_way(line: str, start: int, end: int, some: set[str]) -> None:
    [(found_start, found_end, texts)] = repairs(line)
    assert (found_start, found_end) == (start, end)
    assert some <= set(texts)
    assert texts == sorted(set(texts))


@pytest.mark.parametrize("line", ["ㅋㅋㅋ", "응ㅋ", "배고파ㅠㅠ", "ㅇㅇ 그래", "ㄱ자 모양", "네ㅎㅎ", "가나다"])
def test_jamo_that_are_meant_are_no_slip(line: str) -> None:
    assert list(repairs(line)) == []
