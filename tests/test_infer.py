from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from stages import infer, train
from stages.common.files import write_json
from stages.common.generation import DecodingSettings, summarise
from stages.common.model import load_for_generation, load_tokenizer
from stages.common.params import load_params
from stages.common.prompt import PromptBuilder, PromptSettings
from stages.common.tables import read_table
from tests.tiny_project import configure

SETTINGS = DecodingSettings(max_new_tokens=10, num_beams=2, length_penalty=0.7)


@pytest.fixture
def trained(tiny_project: Path) -> None:
    """A project with an adapter, and decoding settings that params.yaml does not give."""
    configure(
        quantization={"load_in_4bit": False, "compute_dtype": "float32"},
        train={"epochs": 0.5, "preview_samples": 0},
        decoding={"batch_size": 2},
    )
    train.main()
    write_json(infer.DECODING, {"chosen": asdict(SETTINGS)})


def expected(path: Path) -> list[str]:
    """What the adapter writes for each dialogue of a table, by itself."""
    params = load_params()
    model = load_for_generation(infer.MANIFEST, infer.ADAPTER, params.quantization)
    builder = PromptBuilder(load_tokenizer(infer.MANIFEST), PromptSettings.load(infer.ADAPTER))
    dialogues = pd.read_csv(path)["dialogue"]
    return [summarise(model, builder, [text], SETTINGS, batch_size=1, label="test")[0] for text in dialogues]


def rows(path: Path) -> list[list[str]]:
    frame = pd.read_csv(path, dtype=str, keep_default_na=False, header=None)
    table: list[list[str]] = frame.to_numpy().tolist()
    return table


def test_predictions_in_the_order_of_the_tables(trained: None) -> None:
    infer.main()
    for split in ("dev", "test"):
        table = Path(f"data/clean/{split}.csv")
        fnames = pd.read_csv(table)["fname"]
        assert rows(infer.PREDICTIONS / f"{split}.csv") == [
            ["fname", "summary"],
            *map(list, zip(fnames, expected(table), strict=True)),
        ]
    assert sorted(path.name for path in infer.PREDICTIONS.iterdir()) == ["dev.csv", "test.csv"]
    # Dialogues are generated longest first, which is not the order of the table.
    lengths = read_table(Path("data/clean/dev.csv"), "dev")["dialogue"].str.len().tolist()
    assert lengths != sorted(lengths, reverse=True)


@pytest.mark.parametrize("index", [True, False])
def test_the_submission_has_a_row_for_each_test_dialogue(index: bool, trained: None) -> None:
    configure(data={"submission_index": index})
    assert "summary" not in pd.read_csv("data/clean/test.csv").columns
    infer.main()
    fnames, summaries = pd.read_csv("data/clean/test.csv")["fname"], expected(Path("data/clean/test.csv"))
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
