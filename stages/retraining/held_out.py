"""Summarizes each original training row with the adapter of its fold, which has not seen it, and scores that."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from functools import partial
from statistics import fmean
from typing import Any

import pandas as pd
import torch

from stages.core import paths
from stages.core.fingerprint import stage_sources
from stages.core.gpus import gpus_that_write
from stages.core.params import Params
from stages.decoding.find_adapter import find_folds
from stages.decoding.postprocess import process
from stages.decoding.predict import predict_tables, shaping
from stages.decoding.resume_log import ResumeLog, resume_log_for
from stages.decoding.tables import Table
from stages.decoding.workers import workers
from stages.engines.load_writers import load_ensemble
from stages.engines.settings import fixed_settings
from stages.scoring.morphemes import CUTTERS, as_analyzer
from stages.scoring.objective import Objective
from stages.scoring.rouge import Scorer
from stages.scoring.scored_rows import measure, score_rows


def summarize_held_out(params: Params, rows: pd.DataFrame) -> tuple[list[str], ResumeLog]:
    """The summary of each row, as params.yaml has it searched for, without a choice on dev and without reranking.

    Args:
        rows: columns fname, dialogue and fold.

    Returns:
        The summaries, and the log that keeps them for a run that goes on after a kill; to be removed at the end.
    """
    plain = {"engine": "transformers", "rerank": "none"}
    params = params.model_copy(update={"decoding": params.decoding.model_copy(update=plain)})
    settings, quantization = fixed_settings(params.decoding), params.quantization
    adapters = find_folds()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    decided_by: list[Any] = [params.seed, quantization.model_dump(), shaping(params), asdict(settings)]
    of_adapters = [file for adapter in adapters for file in sorted(adapter.iterdir())]
    files = [paths.MANIFEST, paths.MERGED, paths.FOLD_ROWS, *of_adapters, *stage_sources("out_of_fold")]
    log = resume_log_for(decided_by, files, device)
    folds = [rows["dialogue"][rows["fold"] == str(number)] for number in range(len(adapters))]
    tables = [Table(dialogues.tolist(), number) for number, dialogues in enumerate(folds)]
    summaries = pd.Series("", index=rows.index)
    with workers(partial(load_ensemble, quantization, adapters), gpus_that_write(params.decoding)) as writers:
        found = predict_tables(writers, tables, settings, params, f"{len(folds)} folds", log)
    for dialogues, answers in zip(folds, found, strict=True):
        summaries[dialogues.index] = [process(answer["text"], params.decoding.postprocess) for answer in answers]
    return summaries.tolist(), log


def scores(params: Params, rows: pd.DataFrame, summaries: Sequence[str]) -> dict[str, Any]:
    """What the summaries score: of all rows what a run's dev and test are measured by, and of each fold the objective.

    Args:
        rows: columns fname, dialogue, summary, topic and fold.
        summaries: of its rows.
    """
    references = [[summary] for summary in rows["summary"]]
    morphemes = Scorer(as_analyzer(CUTTERS[params.evaluate.morphemes]))
    fnames, dialogues, topics = (rows[name].tolist() for name in ("fname", "dialogue", "topic"))
    scored = score_rows(fnames, dialogues, references, summaries, topics, morphemes)
    by_row = Objective.of(params.evaluate).rows(summaries, references)
    folds = pd.Series(by_row).groupby(rows["fold"].astype(int).to_numpy())
    return {
        "objective": params.evaluate.objective,
        "rows": len(rows),
        "final": round(fmean(by_row), 4),
        "folds": [{"rows": len(of), "final": round(fmean(of), 4)} for _, of in folds],
        "out_of_fold": measure(scored, {}),
    }
