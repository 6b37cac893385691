from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from stages import infer, train
from stages.common.adapters import find_adapter
from stages.common.decoding import DecodingSettings
from stages.common.errors import UserError
from stages.common.files import read_json, write_json
from stages.common.generation import summarise
from stages.common.model import load_for_generation, load_tokenizer
from stages.common.params import load_params
from stages.common.prompt import PromptBuilder, PromptSettings
from stages.common.rouge import morpheme_scores
from stages.common.tables import read_table, references
from stages.common.writers import ADAPTER, MANIFEST
from tests.tiny_project import ROOT, configure

SETTINGS = DecodingSettings(max_new_tokens=10, num_beams=2, length_penalty=0.7)


@pytest.fixture
def trained(tiny_project: Path) -> None:
    """A project with an adapter, and decoding settings that params.yaml does not give."""
    configure(
        quantization={"load_in_4bit": False, "compute_dtype": "float32"},
        train={"epochs": 0.5, "preview_samples": 0},
        decoding={"batch_size": 2, "min_hangul": 0.0},
    )
    train.main()
    write_json(infer.DECODING, {"chosen": asdict(SETTINGS)})


def expected(path: Path) -> list[str]:
    """What the adapter writes for each dialogue of a table, by itself."""
    params = load_params()
    model = load_for_generation(MANIFEST, ADAPTER, params.quantization)
    builder = PromptBuilder(load_tokenizer(MANIFEST), PromptSettings.load(ADAPTER))
    dialogues = pd.read_csv(path)["dialogue"]
    return [summarise(model, builder, [text], SETTINGS, batch_size=1, label="test")[0] for text in dialogues]


def rows(path: Path) -> list[list[str]]:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, header=None)
    table: list[list[str]] = frame.to_numpy().tolist()
    return table


def test_predictions_in_the_order_of_the_tables(trained: None) -> None:
    infer.main()
    for split in ("dev", "test"):
        table = Path(f"data/checked/{split}.csv")
        fnames = pd.read_csv(table)["fname"]
        assert rows(infer.PREDICTIONS / f"{split}.csv") == [
            ["fname", "summary"],
            *map(list, zip(fnames, expected(table), strict=True)),
        ]
    assert sorted(path.name for path in infer.PREDICTIONS.iterdir()) == ["dev.csv", "test.csv"]
    # Dialogues are generated longest first, which is not the order of the table.
    lengths = read_table(Path("data/checked/dev.csv"), "dev")["dialogue"].str.len().tolist()
    assert lengths != sorted(lengths, reverse=True)


@pytest.mark.parametrize("index", [True, False])
def test_the_submission_has_a_row_for_each_test_dialogue(index: bool, trained: None) -> None:
    configure(data={"submission_index": index})
    assert "summary" not in pd.read_csv("data/checked/test.csv").columns
    infer.main()
    fnames, summaries = pd.read_csv("data/checked/test.csv")["fname"], expected(Path("data/checked/test.csv"))
    submission = rows(infer.SUBMISSION)
    if index:
        assert infer.SUBMISSION.read_text(encoding="utf-8").startswith(",fname,summary\n0,")
        assert [row.pop(0) for row in submission] == ["", "0", "1", "2"]
    assert submission == [["fname", "summary"], *map(list, zip(fnames, summaries, strict=True))]


def test_a_second_run_writes_the_same_bytes(trained: None) -> None:
    infer.main()
    first = {path: path.read_bytes() for path in [*infer.PREDICTIONS.iterdir(), infer.SUBMISSION]}
    infer.main()
    assert {path: path.read_bytes() for path in [*infer.PREDICTIONS.iterdir(), infer.SUBMISSION]} == first


def outputs() -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in [*infer.PREDICTIONS.iterdir(), infer.SUBMISSION, infer.EFFECTS]}


def test_what_each_rule_does_to_the_score_is_reported(trained: None) -> None:
    infer.main()
    found = read_json(infer.EFFECTS)["dev"]
    assert found["samples"] == 5
    assert list(found["rules"]) == ["thinking", "particles", "repeated", "unfinished", "regenerated"]
    dev = read_table(Path("data/checked/dev.csv"), "dev")
    predicted = pd.read_csv(infer.PREDICTIONS / "dev.csv", keep_default_na=False)["summary"].tolist()
    assert found["processed"] == morpheme_scores(predicted, references(dev)).rounded()["final"]
    configure(decoding={"postprocess": ["particles"]})
    infer.main()
    assert list(read_json(infer.EFFECTS)["dev"]["rules"]) == ["particles", "regenerated"]


def test_an_ensemble_is_reranked_by_what_its_members_agree_on(trained: None) -> None:
    """Two copies of one adapter outvote another."""
    shutil.copytree(ADAPTER, "models/twin")
    settings = {"rerank": "mbr", "samples": 0, "ensemble": ["models/twin"]}
    configure(decoding=settings)
    write_json(infer.DECODING, {"chosen": asdict(DecodingSettings(max_new_tokens=10))})
    infer.main()
    twins = outputs()
    configure(decoding={**settings, "ensemble": []})
    infer.main()
    assert outputs() == twins
    configure(decoding={**settings, "samples": 3})
    infer.main()
    assert outputs()[infer.SUBMISSION] != b""
    configure(decoding={"rerank": "none"})
    with pytest.raises(UserError, match=r"decoding\.ensemble: needs decoding\.rerank: mbr"):
        infer.main()


@pytest.mark.parametrize(
    ("name", "message"),
    [("models/nothing", "'models/nothing' has no adapter here"), ("data", "data holds no adapter_model.safetensors")],
)
def test_an_adapter_that_is_not_there(name: str, message: str, trained: None) -> None:
    with pytest.raises(UserError, match=message):
        find_adapter(name)


@pytest.mark.slow
def test_killed_at_any_moment_it_ends_in_the_same_files(trained: None) -> None:
    configure(decoding={"batch_size": 1, "max_new_tokens": 48})
    write_json(infer.DECODING, {"chosen": asdict(DecodingSettings(max_new_tokens=200, num_beams=3))})
    infer.main()
    expected_outputs = outputs()
    partial = Path("models/partial")
    assert not list(partial.glob("*.jsonl"))
    shutil.rmtree(infer.PREDICTIONS)

    def written() -> int:
        return sum(path.read_bytes().count(b"\n") for path in partial.glob("*.jsonl"))

    command = [sys.executable, "-m", "stages.infer"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    for kill in range(5):
        child = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
        # Of eight batches one more each time; then anywhere in the next.
        while written() <= kill and child.poll() is None:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.1))
        child.kill()
        assert child.wait() == -signal.SIGKILL, "killed before its end"
        assert kill < written() < 8
    infer.main()
    assert outputs() == expected_outputs
    assert not list(partial.glob("*.jsonl"))
