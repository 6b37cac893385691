"""Summarise dev and test: `python -m stages.infer` writes data/predictions and data/submission.csv.

Answers are kept in models/partial as they come: a run that was killed goes on where it was, and ends in the same files.
What the postprocessing rules do to the score of dev is written to metrics/eval/postprocess.json.
"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from stages.common.adapters import find_adapter
from stages.common.answering import Answer, answer_all, shaping
from stages.common.decoding import DecodingSettings
from stages.common.effects import rule_effects
from stages.common.errors import run_stage
from stages.common.files import read_json, replacing, write_json
from stages.common.params import Params, load_params
from stages.common.partial import Journal, journal_for
from stages.common.postprocess import process
from stages.common.submission import write_submission
from stages.common.tables import Split, read_table, references, write_table
from stages.common.writers import ADAPTER, MANIFEST, load_writers

DECODING = Path("metrics/eval/decoding.json")
TABLES: dict[Split, Path] = {"dev": Path("data/checked/dev.csv"), "test": Path("data/checked/test.csv")}
PREDICTIONS = Path("data/predictions")
SUBMISSION = Path("data/submission.csv")
EFFECTS = Path("metrics/eval/postprocess.json")


def journal(params: Params, settings: DecodingSettings, ensemble: list[Path], split: Split) -> Journal:
    """The journal of a split's answers."""
    files = [MANIFEST, TABLES[split]]
    for folder in (ADAPTER, *ensemble):
        files += sorted(path for path in folder.iterdir() if path.is_file())
    settings_of_run: dict[str, Any] = {
        "split": split,
        "seed": params.seed,
        "quantization": params.quantization.model_dump(),
        "decoding": shaping(params.decoding),
        "search": asdict(settings),
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return journal_for(settings_of_run, files, device)


def main() -> None:
    params = load_params()
    settings = DecodingSettings(**read_json(DECODING)["chosen"])
    ensemble = [find_adapter(name) for name in params.decoding.ensemble]
    writers = load_writers(params.decoding, params.quantization, ensemble)
    tables = {split: read_table(path, split) for split, path in TABLES.items()}
    journals = {split: journal(params, settings, ensemble, split) for split in tables}
    answers: dict[Split, list[Answer]] = {}
    for split, table in tables.items():
        answers[split] = answer_all(
            writers,
            table["dialogue"].tolist(),
            settings,
            params.decoding,
            params.seed,
            split,
            journals[split],
        )
    names = params.decoding.postprocess
    predictions = {
        split: pd.DataFrame(
            {"fname": table["fname"], "summary": [process(each["text"], names) for each in answers[split]]}
        )
        for split, table in tables.items()
    }
    with replacing(PREDICTIONS) as folder:
        folder.mkdir()
        for split, frame in predictions.items():
            write_table(frame, folder / f"{split}.csv")
    write_submission(predictions["test"], predictions["test"]["fname"], SUBMISSION, params.data.submission_index)
    write_json(EFFECTS, {"dev": rule_effects(answers["dev"], references(tables["dev"]), names)})
    for each in journals.values():
        each.remove()


if __name__ == "__main__":
    run_stage(main)
