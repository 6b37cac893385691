from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from stages.core.params import Decoding, Params, load_params
from stages.decoding.predict import predict_all
from stages.decoding.rerank import most_agreed, most_korean
from stages.engines.batches import Limits, Tell
from stages.engines.settings import DecodingSettings
from stages.engines.writer import Sampling
from stages.scoring.objective import Objective
from tests.tiny_project import ROOT

SETTINGS = DecodingSettings(max_new_tokens=8)


class Scripted:
    """A writer that has its answers ready, for what a random model does not write."""

    def __init__(self, found: Sequence[str], drawn: Sequence[str]) -> None:
        self.found = list(found)
        self.drawn = list(drawn)
        self.asked: list[Sequence[str]] = []

    def prepare(self, dialogues: Sequence[str]) -> list[int]:
        return [len(dialogue) for dialogue in dialogues]

    def limits(self, decoding: Decoding) -> Limits:
        return Limits(decoding.batch_size)

    def candidates(
        self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling | None = None
    ) -> list[list[str]]:
        return [[*self.found, *(self.drawn if sampling else [])] for _ in dialogues]

    def write(self, dialogues: Sequence[str], settings: DecodingSettings, limits: Limits, tell: Tell) -> list[str]:
        tell(len(dialogues))
        return [self.found[0] for _ in dialogues]

    def samples(
        self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling, limits: Limits
    ) -> list[list[str]]:
        self.asked.append(dialogues)
        return [self.drawn for _ in dialogues]


def params(**values: Any) -> Params:
    params = load_params(ROOT / "params.yaml")
    return params.model_copy(update={"seed": 0, "decoding": params.decoding.model_copy(update=values)})


def answer(writers: Sequence[Scripted], **values: Any) -> dict[str, str]:
    return predict_all(writers, ["#Person1#: 안녕"], SETTINGS, params(**values), "test")[0]


@pytest.mark.parametrize(
    ("first", "drawn", "text"),
    [
        ("둘은 만납니다.", ["둘은 웃습니다."], "둘은 만납니다."),
        ("First, let me read it.</think>둘은 만납니다.", ["x"], "First, let me read it.</think>둘은 만납니다."),
        ("They meet.", ["They met.", "둘은 만납니다.", "둘은 웃습니다."], "둘은 만납니다."),
        ("They meet.", ["They met.", "Both met 둘."], "Both met 둘."),
        ("They meet.", ["They met."], "They meet."),
        ("", ["They met.", "둘은 만납니다."], "둘은 만납니다."),
        ("둘은 ok?", ["둘은 만납니다."], "둘은 ok?"),
    ],
)
def test_what_is_not_korean_is_written_again_and_the_best_stands(first: str, drawn: list[str], text: str) -> None:
    writer = Scripted([first], drawn)
    assert answer([writer], min_hangul=0.3) == {"first": first, "text": text}
    assert bool(writer.asked) == (first in ("They meet.", ""))
    assert answer([writer], min_hangul=0.0) == {"first": first, "text": first}


def test_a_thought_is_no_summary_however_korean() -> None:
    writer = Scripted(["<think>끝나지 않은 생각"], ["<think>또 생각", "둘은 웃습니다."])
    assert answer([writer], min_hangul=0.3) == {"first": "<think>끝나지 않은 생각", "text": "둘은 웃습니다."}


def test_the_candidate_that_the_others_support_is_taken() -> None:
    one = Scripted(["#Person1#은 자전거를 탑니다."], ["둘은 일요일에 만납니다.", "둘은 일요일에 만나기로 합니다."])
    two = Scripted(["둘은 일요일에 만납니다."], [])
    assert answer([one])["text"] == "#Person1#은 자전거를 탑니다."
    assert answer([one, two], rerank="mbr", samples=2)["text"] == "둘은 일요일에 만납니다."
    assert answer([one, two], rerank="mbr", samples=0)["text"] == "#Person1#은 자전거를 탑니다."


def test_of_equals_the_first_is_taken() -> None:
    several = [["가다.", "나다.", "가다.", "나다."], ["하나"], ["가다.", "나다.", "나다."]]
    assert most_agreed(several, Objective("balanced")) == [0, 0, 1]
    assert most_korean(["a", "가b", "가나", "다라"], 0.9) == 2
    assert most_korean(["a", "가b", "나c"], 0.9) == 1
