"""Trains models/adapter further on candidates of its training rows, by what each of them is worth."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from dvclive import Live

from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import read_json, replacing, write_json
from stages.core.fingerprint import stage_sources
from stages.core.params import Params
from stages.core.shared_folder import remove_unused
from stages.corpus.tables import read_table, references
from stages.layers.fused_layer import refresh
from stages.layers.packed_rows import pack, split
from stages.models.families import reads_packed
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer
from stages.retraining.preferences import PREFERENCES, Compared, Comparing, Preference
from stages.scoring.candidates import CandidateRow, read_candidates
from stages.scoring.reward import reward
from stages.training.checkpoints import resuming, run_folder
from stages.training.data import TrainingData
from stages.training.preview import Preview
from stages.training.processes import Processes
from stages.training.session import (
    best_on_dev,
    build_trainer,
    decisive,
    load_trainable_base,
    train_from,
    with_lanes,
    write_adapter,
)
from stages.training.tracking import TrackWithLive
from stages.training.trainer import SummaryTrainer, as_dataset

SECTIONS = ("candidates", "reward", "align")
"""What shapes the adapter beside what a training reads of params.yaml."""

logger = logging.getLogger(__name__)


def compared_rows(
    rows: Sequence[CandidateRow],
    table: pd.DataFrame,
    builder: PromptBuilder,
    preference: Preference,
    params: Params,
) -> list[Compared]:
    """What is learned, or measured, of candidates: a row for each dialogue that has some to compare.

    Args:
        table: the one that the rows are of, columns dialogue and reference, with fnames as index.
    """
    found = []
    for row in rows:
        by_text = {each.text: each for each in reversed(row.candidates)}
        candidates = list(by_text.values())
        rewards = [reward(each, params.evaluate.objective, params.reward) for each in candidates]
        chosen = preference.choose(rewards)
        if not chosen:
            continue
        of = table.loc[row.fname]
        found.append(
            Compared(
                builder.prompt_ids(of["dialogue"]),
                builder.completion_ids(of["reference"]),
                [builder.completion_ids(candidates[place].text) for place in chosen],
                [rewards[place] for place in chosen],
            )
        )
    return found


def alignment_data(params: Params, preference: Preference) -> TrainingData:
    """The candidates of training rows and of dev, after the prompt that models/adapter was trained with.

    Raises:
        UserError: there are no candidates, or none that could be compared.
    """
    builder = PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(paths.ADAPTER))
    train, dev = read_table(paths.MERGED, "train"), read_table(paths.DEV, "dev")
    tables = {
        "train": train.assign(reference=train["summary"]).set_index("fname"),
        "dev": dev.assign(reference=[refs[0] for refs in references(dev)]).set_index("fname"),
    }
    shown = {example.fname for example in builder.settings.examples}
    known = [row for row in read_candidates(paths.CANDIDATES) if row.split == "dev" or row.fname not in shown]
    of: dict[str, list[Compared]] = {}
    for name, table in tables.items():
        rows = [row for row in known if row.split == name]
        of[name] = compared_rows(rows, table, builder, preference, params)
        logger.info("%s: %d of %d rows have candidates to compare", name, len(of[name]), len(rows))
        if not of[name]:
            raise UserError(
                f"{paths.CANDIDATES}: no row of {name} has candidates that differ enough to compare; raise "
                "candidates.samples or candidates.temperature, or lower align.least_gap"
            )
    return TrainingData(builder, of["train"], {"original": len(of["train"])}, dev, of["dev"])


def align(params: Params, processes: Processes) -> None:
    """Train, from the last checkpoint on where there is one.

    Raises:
        UserError: there is nothing to learn, or the model cannot be trained so.
    """
    params = with_lanes(params, processes)
    manifest = read_json(paths.MANIFEST)
    adapter = [paths.ADAPTER / name for name in ("adapter_model.safetensors", "prompt.json")]
    inputs = [paths.MERGED, paths.DEV, paths.MANIFEST, paths.CANDIDATES, *adapter, *stage_sources("align")]
    settings = {**decisive(params), **params.model_dump(include={*SECTIONS}), "by": params.evaluate.objective}
    run = run_folder(settings, inputs)
    preference = PREFERENCES[params.align.objective](params.align)
    with resuming(run, processes) as checkpoint:
        _train(params, manifest, preference, run, checkpoint, processes)
    if processes.first:
        remove_unused(run)


def _train(
    params: Params,
    manifest: dict[str, Any],
    preference: Preference,
    run: Path,
    checkpoint: Path | None,
    processes: Processes,
) -> None:
    course = params.train.model_copy(
        update={"epochs": params.align.epochs, "learning_rate": params.align.learning_rate}
    )
    trained = params.model_copy(update={"train": course})
    data = alignment_data(params, preference)
    base = load_trainable_base(params, processes)
    if not reads_packed(base.model.config):
        raise UserError(
            f'params.yaml: align.objective = "{params.align.objective}": {manifest["name"]} reads no packed rows, in '
            "which candidates stand side by side; set none"
        )
    objective = Comparing(preference, params.align.fine_tuning)
    build = partial(build_trainer, trained, data, base, run, objective, begin=paths.ADAPTER)
    if not processes.first:
        train_from(_knowing(build(), preference, data, run, processes), checkpoint)
        return
    preview = Preview(
        data.builder,
        data.dev["fname"].tolist(),
        data.dev["dialogue"].tolist(),
        references(data.dev),
        n=course.preview_samples,
        max_new_tokens=course.preview_max_new_tokens,
        batch_size=course.batch_size,
        folder=run / "previews",
    )
    with replacing(paths.ALIGNMENT_LOG) as logs, Live(str(logs), dvcyaml=False, save_dvc_exp=False) as live:
        trainer = build(preview=preview, callbacks=[TrackWithLive(live)])
        train_from(_knowing(trainer, preference, data, run, processes), checkpoint)
        live.log_metric("best/step", trainer.state.best_global_step, plot=False)
        live.log_metric("best/eval_loss", trainer.state.best_metric, plot=False)
        live.log_metric("rows", len(data.rows), plot=False)
        preview.copy_to(logs / "previews")
    kind = f"models/adapter, trained further by {params.align.objective} on candidates of {len(data.rows)} rows."
    ending = f"{kind} {best_on_dev(trainer, data)}"
    write_adapter(paths.ALIGNED, trainer, data, params, manifest, ending, also=SECTIONS)


def _knowing(
    trainer: SummaryTrainer, preference: Preference, data: TrainingData, run: Path, processes: Processes
) -> SummaryTrainer:
    """The trainer, whose rows know what its adapter begins from, where the preference asks for it."""
    if preference.begins_from:
        known = processes.from_first(lambda: before(trainer, data, run / "before.json"))
        trainer.train_dataset, trainer.eval_dataset = (
            as_dataset([replace(row, before=values) for row, values in zip(rows, of, strict=True)])
            for rows, of in zip((data.rows, data.dev_rows), known, strict=True)
        )
    return trainer


def before(trainer: SummaryTrainer, data: TrainingData, kept: Path) -> list[list[list[float]]]:
    """The log probability of each candidate under the adapter that training begins from, of training rows and of dev.

    It is computed once, and kept beside the checkpoints: no second model is needed while training.
    """
    if not kept.is_file():
        write_json(kept, [[log_probabilities(trainer, row) for row in rows] for rows in (data.rows, data.dev_rows)])
    found: list[list[list[float]]] = read_json(kept)
    return found


@torch.no_grad()
def log_probabilities(trainer: SummaryTrainer, row: Compared) -> list[float]:
    """The log probability of each of a row's candidates under the weights as they are."""
    trainer.model.eval()
    refresh(trainer.base)
    rows = row.rows()[1:]
    found = [0.0] * len(rows)
    for batch in split(list(map(len, rows)), trainer.plan.micro_batch_tokens):
        packed = pack([rows[number] for number in batch], trainer.base.device)
        losses = trainer.losses(packed)
        sums = losses.new_zeros(len(batch)).index_add(0, packed.rows, losses).tolist()
        for number, value in zip(batch, sums, strict=True):
            found[number] = -value
    return found
