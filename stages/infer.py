"""Summarise dev and test: `python -m stages.infer` writes data/predictions and data/submission.csv."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from stages.common.errors import run_stage
from stages.common.files import read_json, replacing
from stages.common.generation import DecodingSettings, summarise
from stages.common.model import load_for_generation, load_tokenizer
from stages.common.params import load_params
from stages.common.prompt import PromptBuilder, PromptSettings
from stages.common.submission import write_submission
from stages.common.tables import Split, read_table, write_table

MANIFEST = Path("models/base.json")
ADAPTER = Path("models/adapter")
DECODING = Path("metrics/eval/decoding.json")
TABLES: dict[Split, Path] = {"dev": Path("data/clean/dev.csv"), "test": Path("data/clean/test.csv")}
PREDICTIONS = Path("data/predictions")
SUBMISSION = Path("data/submission.csv")


def main() -> None:
    params = load_params()
    settings = DecodingSettings(**read_json(DECODING)["chosen"])
    model = load_for_generation(MANIFEST, ADAPTER, params.quantization)
    builder = PromptBuilder(load_tokenizer(MANIFEST), PromptSettings.load(ADAPTER))
    predictions = {}
    for split, path in TABLES.items():
        table = read_table(path, split)
        summaries = summarise(
            model,
            builder,
            table["dialogue"].tolist(),
            settings,
            batch_size=params.decoding.batch_size,
            label=split,
        )
        predictions[split] = pd.DataFrame({"fname": table["fname"], "summary": summaries})
    with replacing(PREDICTIONS) as folder:
        folder.mkdir()
        for split, frame in predictions.items():
            write_table(frame, folder / f"{split}.csv")
    write_submission(predictions["test"], predictions["test"]["fname"], SUBMISSION, params.data.submission_index)


if __name__ == "__main__":
    run_stage(main)
