"""Summarize dev and test: `python -m stages.infer` writes data/predictions and data/submission.csv.

Dialogues are spread over the GPUs of `decoding.gpus`, which write what one writes.
Answers are kept in models/partial as they come: a run that was killed goes on where it was, and ends in the same files,
unless parameters, inputs or its own code are others.
With `refit.enabled` the adapter that learned dev too writes test, and dev is as the run that it follows has it.
What the postprocessing rules do to the score of dev is written to metrics/eval/postprocess.json.
"""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import read_json, replacing, write_json
from stages.core.fingerprint import stage_sources
from stages.core.gpus import gpus_that_write, take_gpus
from stages.core.params import Params, load_params
from stages.corpus.predictions import write_submission
from stages.corpus.tables import Split, read_table, references, write_table
from stages.decoding.find_adapter import adapter_in_use, find_adapters
from stages.decoding.learned import Reranker
from stages.decoding.postprocess import process
from stages.decoding.postprocess_effects import rule_effects
from stages.decoding.predict import Prediction, predict_tables, shaping
from stages.decoding.rerank import reranked_as
from stages.decoding.resume_log import ResumeLog, resume_log_for
from stages.decoding.tables import Table
from stages.decoding.workers import workers
from stages.engines.load_writers import load_writers
from stages.engines.settings import DecodingSettings
from stages.scoring.objective import Objective

TABLES: dict[Split, Path] = {"dev": paths.DEV, "test": paths.TEST}


def adapters(params: Params) -> dict[Split, Path]:
    """The adapter that summarizes each split: a refitted one learned dev, so it is for test alone."""
    adapter = adapter_in_use(params)
    return {"dev": adapter, "test": paths.REFIT if params.refit.enabled else adapter}


def resume_log(
    params: Params,
    settings: DecodingSettings,
    adapter: Path,
    ensemble: list[Path],
    splits: list[Split],
    reranker: Reranker | None,
) -> ResumeLog:
    """The log of the answers for the splits that an adapter writes."""
    files = [paths.MANIFEST, *(TABLES[split] for split in splits), *stage_sources("infer")]
    for folder in (adapter, *ensemble):
        files += sorted(path for path in folder.iterdir() if path.is_file())
    settings_of_run: dict[str, Any] = {
        "splits": splits,
        "seed": params.seed,
        "quantization": params.quantization.model_dump(),
        "decoding": shaping(params),
        "search": asdict(settings),
        "reranker": reranker and dict(reranker.weights),
    }
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return resume_log_for(settings_of_run, files, device)


def main() -> None:
    params = load_params()
    take_gpus(params)
    chosen = read_json(paths.DECODING)
    params = reranked_as(chosen, params)
    settings = DecodingSettings(**chosen["chosen"])
    reranker = Reranker.of(chosen) if params.decoding.rerank == "learned" else None
    ensemble = find_adapters(params.decoding.ensemble)
    writing = adapters(params)
    tables = {split: read_table(path, split) for split, path in TABLES.items()}
    gpus = gpus_that_write(params.decoding)
    logs: list[ResumeLog] = []
    answers: dict[Split, list[Prediction]] = {}
    for adapter in dict.fromkeys(writing.values()):
        splits = [split for split in tables if writing[split] == adapter]
        dialogues = [Table(tables[split]["dialogue"].tolist()) for split in splits]
        logs.append(resume_log(params, settings, adapter, ensemble, splits, reranker))
        load = partial(load_writers, params.decoding, params.quantization, ensemble, adapter)
        with workers(load, gpus) as writers:
            label = " and ".join(splits)
            found = predict_tables(writers, dialogues, settings, params, label, logs[-1], reranker)
            answers.update(zip(splits, found, strict=True))
    names = params.decoding.postprocess
    predictions = {
        split: pd.DataFrame(
            {"fname": table["fname"], "summary": [process(each["text"], names) for each in answers[split]]}
        )
        for split, table in tables.items()
    }
    with replacing(paths.PREDICTIONS) as folder:
        folder.mkdir()
        for split, frame in predictions.items():
            write_table(frame, folder / f"{split}.csv")
    write_submission(predictions["test"], predictions["test"]["fname"], paths.SUBMISSION, params.data.submission_index)
    effects = rule_effects(answers["dev"], references(tables["dev"]), names, Objective.of(params.evaluate))
    write_json(paths.POSTPROCESS_EFFECTS, {"dev": effects})
    for each in logs:
        each.remove()


if __name__ == "__main__":
    run_stage(main)
