from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any, cast

import pytest

from stages import infer, train, tune_decoding
from stages.core import paths
from stages.core.errors import UserError
from stages.core.params import Decoding, load_params
from stages.corpus.predictions import read_predictions
from stages.corpus.tables import read_table, references, write_table
from stages.decoding import choice
from stages.decoding.choice import Average, Outcome
from stages.decoding.evaluation import Evaluation, Reranked
from stages.decoding.postprocess import process
from stages.decoding.predict import predict_all
from stages.decoding.workers import Here
from stages.engines.batches import Limits
from stages.engines.load_writers import load_ensemble
from stages.engines.settings import DecodingSettings, candidates, fixed_settings
from stages.engines.transformers_writer import TransformersWriter
from stages.engines.writer import Sampling
from stages.models.load import load_for_generation
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer
from stages.scoring.objective import Objective
from stages.scoring.shape import repeated_words
from stages.serving.summarize import summarize
from stages.tune_decoding import reranked
from tests.tiny_project import ROOT, configure


def decoding(**values: Any) -> Decoding:
    return load_params(ROOT / "params.yaml").decoding.model_copy(update=values)


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(paths.DECODING.read_text(encoding="utf-8"))
    return found


def train_once() -> None:
    """A project with an adapter, where four dev samples decide."""
    configure(
        train={"epochs": 0.25, "preview_samples": 0},
        decoding={"max_new_tokens": 12, "tune_samples": 4, "tune_length_penalty": [0.7, 3.0]},
    )
    train.main()


@pytest.fixture
def trained(project_after: Callable[..., Path]) -> None:
    project_after(train_once)


def test_candidates_are_all_combinations() -> None:
    params = decoding(
        max_new_tokens=50,
        tune_num_beams=[2, 4],
        tune_length_penalty=[0.7, 1.0],
        tune_repetition_penalty=[1.0, 1.05],
        tune_max_length=[0.0, 0.3],
        tune_stop_at_sentence=[False, True],
    )
    found = candidates(params)
    assert len(found) == len(set(found)) == 2 * 2 * 2 * 3
    assert DecodingSettings(50, 4, 0.7, 1.05, max_length=0.3, stop_at_sentence=True) in found


def test_nothing_is_tried_twice_that_means_the_same() -> None:
    params = decoding(
        max_new_tokens=50,
        length_penalty=0.9,
        tune_num_beams=[4, 1, 4],
        tune_length_penalty=[0.7, 1.0, 0.7],
        tune_stop_at_sentence=[True, False],
    )
    assert candidates(params) == [
        DecodingSettings(50, 4, 0.7),
        DecodingSettings(50, 4, 1.0),
        DecodingSettings(50, 1, 0.9),
    ]


def test_what_means_nothing_stays_as_params_yaml_has_it() -> None:
    params = decoding(
        stop_at_sentence=True, tune_num_beams=[1], tune_max_length=[0.0, 0.3], tune_stop_at_sentence=[False]
    )
    assert [(each.max_length, each.stop_at_sentence) for each in candidates(params)] == [(0.0, True), (0.3, False)]


def test_lengths_that_exclude_each_other_are_refused() -> None:
    with pytest.raises(UserError, match=r"decoding\.tune_min_length: each is above every tune_max_length"):
        candidates(decoding(tune_min_length=[0.5], tune_max_length=[0.2]))


def test_without_a_search_the_parameters_are_taken(tiny_project: Path) -> None:
    configure(
        decoding={
            "tune": False, "max_new_tokens": 50, "num_beams": 3, "length_penalty": 0.5, "repetition_penalty": 1.2,
            "min_length": 0.1, "max_length": 0.4, "stop_at_sentence": True,
        }
    )  # fmt: skip
    tune_decoding.main()
    chosen = {
        "max_new_tokens": 50, "num_beams": 3, "length_penalty": 0.5, "repetition_penalty": 1.2,
        "min_length": 0.1, "max_length": 0.4, "stop_at_sentence": True,
    }  # fmt: skip
    assert read() == {"objective": "balanced", "chosen": chosen, "tried": []}
    assert asdict(fixed_settings(load_params().decoding)) == chosen
    assert (paths.DECODING_POINTS / "num_beams.tsv").read_text() == "value\tfinal\tsamples\n"


@pytest.mark.parametrize("best", [0, 1, 2])
def test_the_best_of_what_was_tried_is_chosen_and_its_gain_is_cross_validated(best: int, trained: None) -> None:
    """What candidate `best` writes becomes the reference, so that it is one that scores highest."""
    params = load_params()
    tried = candidates(params.decoding)
    dev = read_table(paths.DEV, "dev")
    model = load_for_generation(paths.MANIFEST, paths.ADAPTER, params.quantization)
    builder = PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(paths.ADAPTER))
    rows = [0, 1, 2, 3]
    dialogues = dev["dialogue"].iloc[rows].tolist()
    written = [summarize(model, builder, dialogues, each, batch_size=4, label="test") for each in tried]
    for row, summary in zip(rows, written[best], strict=True):
        dev.loc[row, "summary1"] = summary
    write_table(dev, paths.DEV)
    refs = [references(dev)[row] for row in rows]

    objective = Objective.of(params.evaluate)

    def outcomes(texts: list[str], of: slice) -> list[Outcome]:
        processed = [process(text, params.decoding.postprocess) for text in texts[of]]
        scores = objective.rows(processed, refs[of])
        rows = zip(scores, processed, refs[of], strict=True)
        return [
            Outcome(score, bool(repeated_words(text)), len(text), fmean(map(len, row))) for score, text, row in rows
        ]

    def measured(found: list[Outcome]) -> dict[str, float]:
        average = Average.of(found)
        numbers = {"final": average.score, "repeats": average.repeats, "length_ratio": average.length_ratio}
        return {name: round(number, 4) for name, number in numbers.items()}

    tune_decoding.main()
    found = read()
    halves = (slice(0, None, 2), slice(1, None, 2))
    winners = [choice.best({i: outcomes(texts, half) for i, texts in enumerate(written)}) for half in halves]
    fixed = tried.index(fixed_settings(params.decoding))
    contenders = {i: outcomes(written[i], slice(None)) for i in (*winners, fixed)}
    whole = [measured(outcomes(texts, slice(None))) for texts in written]
    assert [{name: each[name] for name in whole[0]} for each in found["tried"]] == whole
    assert [each["samples"] for each in found["tried"]] == [4, 4, 4]
    assert found["objective"] == "balanced"
    assert found["chosen"] == asdict(tried[choice.best(contenders)])
    finals = [each["final"] for each in whole]
    assert finals[best] == max(finals) == finals[tried.index(DecodingSettings(**found["chosen"]))]
    after = measured(outcomes(written[winners[0]], halves[1]) + outcomes(written[winners[1]], halves[0]))
    assert found["cross_validated"] == {
        "samples": 4,
        "chosen": after,
        "fixed": whole[fixed],
        "gain": pytest.approx(after["final"] - whole[fixed]["final"], abs=2e-4),
    }
    points = (paths.DECODING_POINTS / "num_beams.tsv").read_text().splitlines()
    assert points[0] == "value\tfinal\tsamples"
    assert points[1:] == [f"{each.num_beams}\t{score}\t4" for each, score in zip(tried, finals, strict=True)]
    assert {path.stem for path in paths.DECODING_POINTS.iterdir()} == set(asdict(tried[0])) - {"max_new_tokens"}


def test_fixed_settings_that_score_higher_than_all_candidates_stay(trained: None) -> None:
    configure(decoding={"num_beams": 2, "tune_num_beams": [1]})
    params = load_params()
    fixed = fixed_settings(params.decoding)
    [greedy] = candidates(params.decoding)
    dev = read_table(paths.DEV, "dev")
    model = load_for_generation(paths.MANIFEST, paths.ADAPTER, params.quantization)
    builder = PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(paths.ADAPTER))
    dialogues = dev["dialogue"].head(4).tolist()
    written = summarize(model, builder, dialogues, fixed, batch_size=4, label="test")
    assert written != summarize(model, builder, dialogues, greedy, batch_size=4, label="test")
    dev.loc[range(4), "summary1"] = written
    write_table(dev, paths.DEV)
    tune_decoding.main()
    found = read()
    assert found["chosen"] == asdict(fixed)
    assert [each["num_beams"] for each in found["tried"]] == [1, 2]
    assert found["tried"][0]["final"] < found["tried"][1]["final"]


def test_a_second_search_writes_the_same_bytes(trained: None) -> None:
    tune_decoding.main()
    files = [paths.DECODING, *sorted(paths.DECODING_POINTS.iterdir())]
    first = [path.read_bytes() for path in files]
    tune_decoding.main()
    assert [path.read_bytes() for path in files] == first


class Scripted:
    """A writer of given texts: what its search finds and what it samples, the same for every dialogue."""

    def __init__(self, found: dict[int, list[str]], samples: list[str]) -> None:
        self.found, self.drawn = found, samples

    def prepare(self, dialogues: Sequence[str]) -> list[int]:
        return [10] * len(dialogues)

    def limits(self, decoding: Decoding) -> Limits:
        return Limits(4)

    def best(self, dialogues: Sequence[str], settings: Sequence[DecodingSettings]) -> list[list[str]]:
        return [[self.found[each.num_beams][0]] * len(dialogues) for each in settings]

    def candidates(
        self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling | None = None
    ) -> list[list[str]]:
        drawn = self.drawn[: sampling.count] if sampling else []
        return [[*self.found[settings.num_beams], *drawn] for _ in dialogues]


GOOD, FAIR, BAD = "둘은 역에서 만납니다.", "둘은 역에서 밥을 먹습니다.", "하나는 집에 갑니다."


@pytest.mark.parametrize(
    ("beams", "samples", "writers", "expected"),
    [
        ([BAD, FAIR], [GOOD, GOOD], 1, ("mbr", 2)),  # samples agree on what the search puts nowhere
        ([BAD, GOOD, GOOD], [BAD, BAD, BAD, BAD], 1, ("mbr", 0)),  # beams alone are right, samples outvote them
        ([GOOD, BAD, BAD], [BAD, BAD], 1, ("none", 0)),  # the search is right
    ],
)
def test_reranking_is_chosen_where_it_wins(
    beams: list[str], samples: list[str], writers: int, expected: tuple[str, int]
) -> None:
    params = load_params(ROOT / "params.yaml")
    tuned = {"tune_rerank": True, "tune_num_beams": [4], "tune_length_penalty": [1.0], "samples": len(samples)}
    params = params.model_copy(update={"decoding": decoding(num_beams=4, **tuned)})
    writer = cast(TransformersWriter, Scripted({4: beams}, samples))
    evaluate = Evaluation(Here([writer] * writers), ["대화"] * 6, [[GOOD]] * 6, params)
    fixed = fixed_settings(params.decoding)
    found = tune_decoding.choose(evaluate, [fixed], fixed)
    assert found["chosen"] == asdict(fixed)
    assert tuple(found["rerank"].values()) == expected
    before = Objective.of(params.evaluate).rows([beams[0]], [[GOOD]])[0]
    assert found["cross_validated"]["gain"] == pytest.approx(100 - before if expected[0] == "mbr" else 0, abs=1e-3)
    tried = {(each["rerank"], each["drawn"]): each["final"] for each in found["tried"]}
    assert tried[expected] == pytest.approx(100)
    assert tried.keys() == {("none", 0), ("mbr", 0), ("mbr", len(samples))}


def test_what_is_weighed_against_a_search() -> None:
    params = decoding(tune_num_beams=[1, 4], samples=3)
    greedy = DecodingSettings(96)
    beams = DecodingSettings(96, num_beams=4)
    # Of one adapter a greedy summary is the only candidate.
    assert reranked(greedy, params, 1) == [Reranked(greedy, 3), Reranked(beams, 0), Reranked(beams, 3)]
    assert reranked(beams, params, 1) == [Reranked(beams, 0), Reranked(beams, 3)]
    assert reranked(greedy, params, 3)[0] == Reranked(greedy, 0)


def test_candidates_of_several_adapters_and_instructions_are_weighed(trained: None) -> None:
    """What minimum Bayes risk takes becomes the reference, so that it wins; and `infer` then writes that."""
    shutil.copytree(paths.ADAPTER, paths.FOLDS / "0")
    configure(
        quantization={"load_in_4bit": False, "compute_dtype": "float32"},
        decoding={
            "tune_rerank": True, "ensemble": ["folds"], "prompts": ["요약:"], "samples": 3, "temperature": 2.0,
            "min_hangul": 0.0,
        },
        folds={"n": 2},
    )  # fmt: skip
    params = load_params()
    agreed = params.decoding.model_copy(update={"rerank": "mbr"})
    writers = load_ensemble(params.quantization, [paths.ADAPTER, paths.FOLDS / "0"], ["요약:"])
    assert [writer.builder.settings.instruction for writer in writers] == [params.prompt.instruction] * 2 + [
        "요약:"
    ] * 2
    assert [writer.adapter for writer in writers] == ["default", "ensemble0"] * 2
    dev = read_table(paths.DEV, "dev")
    settings = DecodingSettings(12, num_beams=2)
    mbr = params.model_copy(update={"decoding": agreed})
    answers = predict_all(writers, dev["dialogue"].tolist(), settings, mbr, "test")
    texts = [process(each["text"], agreed.postprocess) for each in answers]
    for number in (1, 2, 3):
        dev[f"summary{number}"] = [text or "없음" for text in texts]
    write_table(dev, paths.DEV)
    tune_decoding.main()
    found = read()
    assert found["rerank"]["rerank"] == "mbr"
    infer.main()
    assert found["rerank"]["samples"] == 3
    assert read_predictions(paths.DEV_PREDICTIONS, dev["fname"]) == texts
