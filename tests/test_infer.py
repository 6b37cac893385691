from __future__ import annotations

import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import pytest

from stages import infer, train
from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import read_json, write_json
from stages.core.params import load_params
from stages.corpus.tables import read_table, references
from stages.decoding.find_adapter import find_adapter, find_adapters
from stages.decoding.predict import predict_tables
from stages.decoding.workers import Here
from stages.engines.settings import DecodingSettings
from stages.engines.transformers_writer import TransformersWriter
from stages.models.load import load_for_generation
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer
from stages.scoring.objective import Objective
from stages.serving.summarize import summarize
from tests.tiny_project import configure, copy_of_the_code, kill, start_stage

SETTINGS = DecodingSettings(max_new_tokens=10, num_beams=2, length_penalty=0.7)


def train_once() -> None:
    """A project with an adapter, and decoding settings that params.yaml does not give."""
    configure(
        quantization={"load_in_4bit": False, "compute_dtype": "float32"},
        train={"epochs": 0.5, "preview_samples": 0},
        decoding={"batch_size": 2, "min_hangul": 0.0},
    )
    train.main()
    write_json(paths.DECODING, {"chosen": asdict(SETTINGS)})


@pytest.fixture
def trained(project_after: Callable[..., Path]) -> None:
    project_after(train_once)


def expected(path: Path) -> list[str]:
    """What the adapter writes for each dialogue of a table, by itself."""
    params = load_params()
    model = load_for_generation(paths.MANIFEST, paths.ADAPTER, params.quantization)
    builder = PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(paths.ADAPTER))
    dialogues = pd.read_csv(path)["dialogue"]
    return [summarize(model, builder, [text], SETTINGS, batch_size=1, label="test")[0] for text in dialogues]


def rows(path: Path) -> list[list[str]]:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, header=None)
    table: list[list[str]] = frame.to_numpy().tolist()
    return table


def test_predictions_in_the_order_of_the_tables(trained: None) -> None:
    infer.main()
    for split in ("dev", "test"):
        table = Path(f"data/checked/{split}.csv")
        fnames = pd.read_csv(table)["fname"]
        assert rows(paths.PREDICTIONS / f"{split}.csv") == [
            ["fname", "summary"],
            *map(list, zip(fnames, expected(table), strict=True)),
        ]
    assert sorted(path.name for path in paths.PREDICTIONS.iterdir()) == ["dev.csv", "test.csv"]
    # Dialogues are generated longest first, which is not the order of the table.
    lengths = read_table(Path("data/checked/dev.csv"), "dev")["dialogue"].str.len().tolist()
    assert lengths != sorted(lengths, reverse=True)


@pytest.mark.parametrize("index", [True, False])
def test_the_submission_has_a_row_for_each_test_dialogue(index: bool, trained: None) -> None:
    configure(data={"submission_index": index})
    assert "summary" not in pd.read_csv("data/checked/test.csv").columns
    infer.main()
    fnames, summaries = pd.read_csv("data/checked/test.csv")["fname"], expected(Path("data/checked/test.csv"))
    submission = rows(paths.SUBMISSION)
    if index:
        assert paths.SUBMISSION.read_text(encoding="utf-8").startswith(",fname,summary\n0,")
        assert [row.pop(0) for row in submission] == ["", "0", "1", "2"]
    assert submission == [["fname", "summary"], *map(list, zip(fnames, summaries, strict=True))]


def test_a_second_run_writes_the_same_bytes(trained: None) -> None:
    infer.main()
    first = {path: path.read_bytes() for path in [*paths.PREDICTIONS.iterdir(), paths.SUBMISSION]}
    infer.main()
    assert {path: path.read_bytes() for path in [*paths.PREDICTIONS.iterdir(), paths.SUBMISSION]} == first


def outputs() -> dict[Path, bytes]:
    return {
        path: path.read_bytes() for path in [*paths.PREDICTIONS.iterdir(), paths.SUBMISSION, paths.POSTPROCESS_EFFECTS]
    }


def test_what_each_rule_does_to_the_score_is_reported(trained: None) -> None:
    infer.main()
    found = read_json(paths.POSTPROCESS_EFFECTS)["dev"]
    assert found["samples"] == 5
    assert list(found["rules"]) == ["thinking", "particles", "repeated", "clauses", "unfinished", "regenerated"]
    dev = read_table(Path("data/checked/dev.csv"), "dev")
    predicted = pd.read_csv(paths.DEV_PREDICTIONS, keep_default_na=False)["summary"].tolist()
    by_row = Objective("balanced").rows(predicted, references(dev))
    assert found["processed"] == round(fmean(by_row), 4)
    configure(decoding={"postprocess": ["particles"]})
    infer.main()
    assert list(read_json(paths.POSTPROCESS_EFFECTS)["dev"]["rules"]) == ["particles", "regenerated"]


def test_an_ensemble_is_reranked_by_what_its_members_agree_on(trained: None) -> None:
    """Two copies of one adapter outvote another."""
    shutil.copytree(paths.ADAPTER, "models/twin")
    settings = {"rerank": "mbr", "samples": 0, "ensemble": ["models/twin"]}
    configure(decoding=settings)
    write_json(paths.DECODING, {"chosen": asdict(DecodingSettings(max_new_tokens=10))})
    infer.main()
    twins = outputs()
    configure(decoding={**settings, "ensemble": []})
    infer.main()
    assert outputs() == twins
    configure(decoding={**settings, "samples": 3})
    infer.main()
    assert outputs()[paths.SUBMISSION] != b""


def test_folds_stand_for_the_adapters_of_all_folds(trained: None) -> None:
    configure(decoding={"rerank": "mbr", "samples": 0, "ensemble": ["folds"]}, folds={"n": 4})
    with pytest.raises(UserError, match=r"decoding\.ensemble: folds: there are none; set folds\.n"):
        infer.main()
    for number in (10, 0, 1, 2):
        shutil.copytree(paths.ADAPTER, paths.FOLDS / str(number))
    (paths.FOLDS / "rows.csv").touch()
    assert find_adapters(["folds", "models/adapter"]) == [
        *(paths.FOLDS / str(number) for number in (0, 1, 2, 10)),
        paths.ADAPTER.resolve(),
    ]
    infer.main()
    of_folds = outputs()
    configure(decoding={"ensemble": [str(paths.FOLDS / str(number)) for number in (0, 1, 2, 10)]})
    infer.main()
    assert outputs() == of_folds


def test_the_reranking_that_was_weighed_is_obeyed(trained: None, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[tuple[str, int, int]] = []

    def spied(writers: Here[Sequence[Any]], tables: Any, settings: Any, params: Any, *rest: Any) -> Any:
        used.append((params.decoding.rerank, params.decoding.samples, len(writers.held)))
        return predict_tables(writers, tables, settings, params, *rest)

    monkeypatch.setattr(infer, "predict_tables", spied)
    configure(decoding={"tune_rerank": True, "samples": 2, "prompts": ["요약:"]})
    chosen = {"chosen": asdict(DecodingSettings(max_new_tokens=10))}
    write_json(paths.DECODING, {**chosen, "rerank": {"rerank": "mbr", "samples": 2}})
    infer.main()
    reranked = outputs()
    write_json(paths.DECODING, {**chosen, "rerank": {"rerank": "none", "samples": 0}})
    infer.main()
    alone = outputs()
    assert used == [("mbr", 2, 2), ("none", 0, 1)]
    write_json(paths.DECODING, chosen)
    configure(decoding={"tune_rerank": False, "rerank": "mbr"})
    infer.main()
    assert outputs() == reranked
    configure(decoding={"rerank": "none", "prompts": []})
    infer.main()
    assert outputs() == alone


@pytest.mark.parametrize(
    ("name", "message"),
    [("models/nothing", "'models/nothing' has no adapter here"), ("data", "data holds no adapter_model.safetensors")],
)
def test_an_adapter_that_is_not_there(name: str, message: str, trained: None) -> None:
    with pytest.raises(UserError, match=message):
        find_adapter(name)


def test_answers_of_other_code_are_not_gone_on_with(
    trained: None, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = copy_of_the_code(tmp_path_factory.mktemp("code"), monkeypatch)
    write = TransformersWriter.write
    batches: list[int] = []

    def counted(self: TransformersWriter, dialogues: Sequence[str], *args: Any) -> list[str]:
        batches.append(len(dialogues))
        return write(self, dialogues, *args)

    def killed(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(TransformersWriter, "write", counted)
    with monkeypatch.context() as patch:
        patch.setattr(infer, "write_submission", killed)
        with pytest.raises(KeyboardInterrupt):
            infer.main()
        assert sum(batches) == 8
        with pytest.raises(KeyboardInterrupt):
            infer.main()
        assert sum(batches) == 8, "all answers were there already"
    with (code / "stages/engines/beam_search.py").open("a", encoding="utf-8") as file:
        file.write("# another search\n")
    infer.main()
    assert sum(batches) == 16


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_in_the_same_files(trained: None) -> None:
    configure(decoding={"batch_size": 1, "max_new_tokens": 48})
    write_json(paths.DECODING, {"chosen": asdict(DecodingSettings(max_new_tokens=64, num_beams=3))})
    infer.main()
    expected_outputs = outputs()
    partial = Path("models/partial")
    assert not list(partial.glob("*.jsonl"))
    shutil.rmtree(paths.PREDICTIONS)

    def written() -> int:
        return sum(path.read_bytes().count(b"\n") for path in partial.glob("*.jsonl"))

    for killed in range(5):
        stage = start_stage("infer")
        # Of eight batches one more each time; then anywhere in the next.
        while written() <= killed and stage.poll() is None:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.1))
        kill(stage)
        assert killed < written() < 8
    infer.main()
    assert outputs() == expected_outputs
    assert not list(partial.glob("*.jsonl"))
