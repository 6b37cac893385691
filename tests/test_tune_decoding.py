from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from stages import train, tune_decoding
from stages.common.generation import DecodingSettings, summarise
from stages.common.model import load_for_generation, load_tokenizer
from stages.common.params import Decoding, load_params
from stages.common.prompt import PromptBuilder, PromptSettings
from stages.common.rouge import morpheme_scores
from stages.common.tables import read_table, references, write_table
from stages.tune_decoding import candidates, fixed_settings
from tests.tiny_project import ROOT, configure

SCORES = ["rouge1", "rouge2", "rougeL", "final"]


def decoding(**values: Any) -> Decoding:
    return load_params(ROOT / "params.yaml").decoding.model_copy(update=values)


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(tune_decoding.DECODING.read_text(encoding="utf-8"))
    return found


@pytest.fixture
def trained(tiny_project: Path) -> None:
    """A project with an adapter, where three dev samples decide."""
    configure(train={"epochs": 0.25, "preview_samples": 0}, decoding={"max_new_tokens": 12, "tune_samples": 3})
    train.main()


def test_candidates_are_all_beams_with_all_penalties() -> None:
    params = decoding(
        max_new_tokens=50, repetition_penalty=1.1, tune_num_beams=[2, 4], tune_length_penalty=[0.7, 1.0, 1.3]
    )
    assert candidates(params) == [
        DecodingSettings(50, beams, penalty, 1.1) for beams in (2, 4) for penalty in (0.7, 1.0, 1.3)
    ]


def test_greedy_search_is_tried_once_and_nothing_twice() -> None:
    params = decoding(
        max_new_tokens=50, length_penalty=0.9, tune_num_beams=[4, 1, 4], tune_length_penalty=[0.7, 1.0, 0.7]
    )
    assert candidates(params) == [
        DecodingSettings(50, 4, 0.7),
        DecodingSettings(50, 4, 1.0),
        DecodingSettings(50, 1, 0.9),
    ]


def test_without_a_search_the_parameters_are_taken(tiny_project: Path) -> None:
    configure(
        decoding={
            "tune": False, "max_new_tokens": 50, "num_beams": 3, "length_penalty": 0.5, "repetition_penalty": 1.2,
        }
    )  # fmt: skip
    tune_decoding.main()
    chosen = {"max_new_tokens": 50, "num_beams": 3, "length_penalty": 0.5, "repetition_penalty": 1.2}
    assert read() == {"chosen": chosen}
    assert asdict(fixed_settings(load_params().decoding)) == chosen


@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_best_of_what_was_tried_is_chosen(best: int, trained: None) -> None:
    """What candidate `best` writes becomes the reference, so that it is the one that scores highest."""
    params = load_params()
    tried = candidates(params.decoding)
    dev = read_table(tune_decoding.DEV, "dev")
    model = load_for_generation(tune_decoding.MANIFEST, tune_decoding.ADAPTER, params.quantization)
    builder = PromptBuilder(load_tokenizer(tune_decoding.MANIFEST), PromptSettings.load(tune_decoding.ADAPTER))
    rows = [0, 1, 3]
    dialogues = dev["dialogue"].iloc[rows].tolist()
    written = [summarise(model, builder, dialogues, each, batch_size=4, label="test") for each in tried]
    for row, summary in zip(rows, written[best], strict=True):
        dev.loc[row, "summary1"] = summary
    write_table(dev, tune_decoding.DEV)
    refs = [references(dev)[row] for row in rows]
    scores = [morpheme_scores(hypotheses, refs).rounded() for hypotheses in written]

    tune_decoding.main()
    found = read()
    assert list(found) == ["chosen", "samples", "tried"]
    assert found["samples"] == 3
    assert found["tried"] == [{**asdict(each), **score} for each, score in zip(tried, scores, strict=True)]
    finals = [score["final"] for score in scores]
    assert found["chosen"] == asdict(tried[finals.index(max(finals))])


def test_of_equals_the_first_is_chosen_and_samples_are_those_there_are(trained: None) -> None:
    configure(
        decoding={"tune_samples": 99, "tune_num_beams": [2, 1], "tune_length_penalty": [0.3], "max_new_tokens": 1}
    )
    dev = read_table(tune_decoding.DEV, "dev")
    write_table(dev.assign(summary1="무", summary2="무", summary3="무"), tune_decoding.DEV)
    tune_decoding.main()
    found = read()
    assert found["samples"] == len(dev) == 5
    assert [each["final"] for each in found["tried"]] == [0.0, 0.0]
    assert found["chosen"] == {
        "max_new_tokens": 1, "num_beams": 2, "length_penalty": 0.3, "repetition_penalty": 1.0,
    }  # fmt: skip


def test_a_second_search_writes_the_same_bytes(trained: None) -> None:
    tune_decoding.main()
    first = tune_decoding.DECODING.read_bytes()
    tune_decoding.main()
    assert tune_decoding.DECODING.read_bytes() == first
