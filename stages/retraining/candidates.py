"""Writes several summaries of each original training row by the adapter of its fold, and of each dev row by the run's.

None of these adapters has seen the rows that it writes: what it is worth there is what it is worth on a new dialogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import pandas as pd
import torch

from stages.core import paths
from stages.core.fingerprint import stage_sources
from stages.core.gpus import gpus_that_write
from stages.core.params import Params
from stages.corpus.tables import references
from stages.decoding.find_adapter import find_folds
from stages.decoding.likelihood import likelihoods
from stages.decoding.postprocess import process
from stages.decoding.resume_log import ResumeLog, resume_log_for
from stages.decoding.tables import Table, in_batches
from stages.decoding.workers import least_limits, workers
from stages.engines.batches import Tell, batches, slots
from stages.engines.load_writers import load_ensemble
from stages.engines.settings import DecodingSettings
from stages.engines.transformers_writer import TransformersWriter
from stages.engines.writer import Sampling
from stages.scoring.candidates import CandidateRow, Written, score_candidates
from stages.scoring.morphemes import CUTTERS, as_analyzer
from stages.scoring.rouge import Scorer


def candidate_rows(params: Params, train: pd.DataFrame, dev: pd.DataFrame) -> tuple[list[CandidateRow], ResumeLog]:
    """The candidates of all rows, scored.

    Args:
        train: columns fname, dialogue, summary and fold.
        dev: the dev table.

    Returns:
        The rows, and the log that keeps what was written for a run that goes on after a kill; to be removed at the end.
    """
    log = _log(params)
    written = _write(params, train, dev, log)
    morphemes = Scorer(as_analyzer(CUTTERS[params.evaluate.morphemes]))
    dialogues = [*train["dialogue"], *dev["dialogue"]]
    scored = score_candidates(written, dialogues, [*([each] for each in train["summary"]), *references(dev)], morphemes)
    names = [("train", *row) for row in zip(train["fname"], train["fold"], strict=True)]
    names += [("dev", fname, "") for fname in dev["fname"]]
    return [CandidateRow(*name, of) for name, of in zip(names, scored, strict=True)], log


def _write(params: Params, train: pd.DataFrame, dev: pd.DataFrame, log: ResumeLog) -> list[list[Written]]:
    settings = DecodingSettings(params.decoding.max_new_tokens, num_beams=params.candidates.num_beams)
    sampling = Sampling(params.candidates.samples, params.candidates.temperature, params.seed)
    folds = find_folds()
    of_folds = [train["dialogue"][train["fold"] == str(number)] for number in range(len(folds))]
    tables = [Table(dialogues.tolist(), number) for number, dialogues in enumerate(of_folds)]
    tables.append(Table(dev["dialogue"].tolist(), len(folds)))
    # As much is held at once as where so many candidates of a dialogue are reranked.
    decoding = params.decoding.model_copy(update={"rerank": "mbr", "samples": sampling.count})
    load = partial(load_ensemble, params.quantization, [*folds, paths.ADAPTER])
    held = partial(slots, beams=settings.num_beams, samples=sampling.count, max_new_tokens=settings.max_new_tokens)
    with workers(load, gpus_that_write(decoding)) as writers:
        limits = least_limits(writers, decoding)
        *by_fold, of_dev = in_batches(
            writers,
            tables,
            propose_and_measure,
            (settings, sampling, params.decoding.postprocess),
            divide=lambda lengths: batches(*held(lengths), limits),
            label="candidates",
            log=log,
        )
    by_row = {
        row: answer
        for dialogues, answers in zip(of_folds, by_fold, strict=True)
        for row, answer in zip(dialogues.index, answers, strict=True)
    }
    return [[Written(*each) for each in answer] for answer in [*(by_row[row] for row in train.index), *of_dev]]


def propose_and_measure(
    loaded: Sequence[TransformersWriter],
    tell: Tell,
    table: Table,
    settings: DecodingSettings,
    sampling: Sampling,
    rules: Sequence[str],
) -> list[list[tuple[str, float, bool]]]:
    """For each dialogue what its writer proposes, as values of `Written`; what postprocessing leaves empty is none."""
    assert table.writer is not None
    writer = loaded[table.writer]
    proposed = []
    for texts in writer.candidates(table.dialogues, settings, sampling):
        flagged = [(process(text, rules), number >= len(texts) - sampling.count) for number, text in enumerate(texts)]
        proposed.append([(text, sampled) for text, sampled in flagged if text])
    values = likelihoods(writer, table.dialogues, [[text for text, _ in of] for of in proposed])
    tell(len(table.dialogues))
    return [
        [(text, round(value, 4), sampled) for (text, sampled), value in zip(of, found, strict=True)]
        for of, found in zip(proposed, values, strict=True)
    ]


def _log(params: Params) -> ResumeLog:
    decided_by: list[Any] = [
        params.seed,
        params.quantization.model_dump(),
        params.candidates.model_dump(),
        params.decoding.model_dump(include={"batch_size", "max_tokens_per_batch", "max_new_tokens", "postprocess"}),
    ]
    of_adapters = [
        file for adapter in (*find_folds(), paths.ADAPTER) for file in sorted(adapter.iterdir()) if file.is_file()
    ]
    files = [paths.MANIFEST, paths.MERGED, paths.DEV, paths.FOLD_ROWS, *of_adapters, *stage_sources("candidates")]
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu"
    return resume_log_for(decided_by, files, device)
