"""Puts a training together: the base model as the memory allows, the trainer, and the plan that it follows.

`stages.train` is one way to use it. What is learned is an entry of `stages.training.objectives`, with its own rows in
`TrainingData`; previews, tracking and whatever else goes on beside come in from outside.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import torch
from tqdm.contrib.logging import logging_redirect_tqdm
from transformers import (
    EarlyStoppingCallback,
    PreTrainedModel,
    ProgressCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import read_json, replacing, write_text
from stages.core.params import Params
from stages.layers.packed_rows import deal
from stages.models.adapter_files import load_weights, save_adapter
from stages.models.download import locate
from stages.models.load import has_fp8, load_base
from stages.models.model_card import Training, model_card
from stages.models.quantizers import quantizes
from stages.training.checkpoints import MarkComplete, is_last
from stages.training.data import TrainingData, typical_rows, typical_steps
from stages.training.gradients import count_lanes
from stages.training.matrix_rate import matrix_rate
from stages.training.memory_plan import budget, count_layers, dequantize_base, make_plan
from stages.training.objectives import TrainingObjective
from stages.training.processes import ALONE, Processes
from stages.training.schedule import ending_at, expected_seconds, make_schedule
from stages.training.tracking import SpeedBar, Speedometer, peak_memory
from stages.training.trainer import SummaryTrainer, as_dataset, random_state_kept
from stages.training.trl_settings import lora_config, sft_config

SECTIONS = {"seed", "quantization", "prompt", "lora", "train"}
"""What a training reads of params.yaml."""
WITHOUT_EFFECT = {"train": {"gpus", "preview_samples", "preview_max_new_tokens", "save_total_limit"}}
"""Of these the ones that leave the adapter as it is; what reads it need not run again for them."""

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Base:
    """The frozen base model, ready to get an adapter.

    Attributes:
        memory: bytes that each process may take; inf on a CPU.
        dequantized: whether the 4-bit weights are held in the compute dtype.
        rate: matrix products that all processes compute, in FLOP/s.
        processes: those that train together, each with a base of its own.
    """

    model: PreTrainedModel
    memory: float
    dequantized: bool
    rate: float
    speed: Speedometer
    processes: Processes


class Previews(Protocol):
    """What is written and scored at each evaluation, beside the loss."""

    def run(self, model: PreTrainedModel, step: int) -> dict[str, float]:
        """Scores to log."""

    def seconds(self, model: PreTrainedModel) -> float:
        """How long that is expected to take."""


def refuse_what_cannot_run(params: Params) -> None:
    """Say before any work what this machine cannot do.

    Raises:
        UserError: FP8 is asked for on a GPU without it.
    """
    if params.quantization.compute == "fp8" and not has_fp8():
        raise UserError(
            "params.yaml: quantization.compute = 'fp8': needs a GPU of NVIDIA's Hopper generation or later; set bf16"
        )


def with_lanes(params: Params, processes: Processes) -> Params:
    """The same with the number of gradient lanes that `auto` stands for: what decides the adapter.

    Raises:
        UserError: the processes cannot share them.
    """
    lanes = count_lanes(params.train.gradient_lanes, processes.count)
    return params.model_copy(update={"train": params.train.model_copy(update={"gradient_lanes": lanes})})


def decisive(params: Params) -> dict[str, Any]:
    """The parameters that a training interrupted under them goes on by; it may go on with another number of GPUs."""
    return params.model_dump(include=SECTIONS, exclude={"train": {"gpus"}})


def load_trainable_base(params: Params, processes: Processes = ALONE) -> Base:
    """The base model of models/base.json, its weights dequantized where the memory of every process allows."""
    processes.one_a_host_first(lambda: locate(read_json(paths.MANIFEST)))
    model = load_base(paths.MANIFEST, params.quantization)
    rate = processes.count * matrix_rate(model.device.type, model.dtype)
    weights = model.num_parameters()
    memory = processes.least(budget(params.train.memory))
    dequantized = (
        quantizes(params.quantization)
        and params.quantization.compute != "fp8"  # which makes its own of the quantized weights
        and dequantize_base(params.train.dequantize, weights, memory)
    )
    if dequantized:
        model = model.dequantize()
    return Base(model, memory, dequantized, rate, Speedometer(weights, rate), processes)


def build_trainer(
    params: Params,
    data: TrainingData,
    base: Base,
    run: Path,
    objective: TrainingObjective,
    *,
    preview: Previews | None = None,
    callbacks: Sequence[TrainerCallback] = (),
    share: float = 1.0,
    begin: Path | None = None,
) -> SummaryTrainer:
    """A trainer that follows a plan made for this memory.

    Args:
        run: the folder of its checkpoints.
        objective: what it makes small; the data's rows are of its kind.
        preview: of each evaluation.
        share: of the schedule's steps, after which a training without dev rows ends.
        begin: the folder of the adapter that is trained further; without, a new one is.

    Raises:
        UserError: the model's layers, or its processes, cannot be trained as params.yaml says.
    """
    processes = base.processes
    lanes = count_lanes(params.train.gradient_lanes, processes.count)
    schedule = make_schedule(len(data.rows), params.train)
    measured = bool(data.dev_rows)
    if not measured:
        schedule = ending_at(schedule, share)
    trainer = SummaryTrainer(
        model=base.model,
        args=sft_config(params, run, schedule.eval_steps, base.model.dtype, measured=measured),
        train_dataset=as_dataset(data.rows),
        eval_dataset=as_dataset(data.dev_rows) if measured else None,
        processing_class=data.builder.tokenizer,
        peft_config=lora_config(params, base.model),
        callbacks=[MarkComplete(), base.speed, *callbacks] if processes.first else [],
        objective=objective,
        preview=lambda step: preview.run(trainer.model, step) if preview else {},
        lora_plus_ratio=params.lora.plus_ratio,
        fp8=params.quantization.compute == "fp8",
        lanes=lanes,
        processes=processes,
    )
    if begin is not None:
        load_weights(trainer.model, begin)
    if trainer.pop_callback(ProgressCallback) and processes.first:
        trainer.add_callback(SpeedBar(base.speed))
    steps = typical_steps(data.rows, params.train.batch_size)
    planned = make_plan(
        trainer.base,
        trainer.probe,
        micro_batch_tokens=params.train.max_tokens_per_batch,
        recomputed_layers=params.train.checkpointed_layers,
        memory=base.memory,
        steps=[[step[row] for row in lane] for step in steps for lane in deal(step, lanes)],
        longest=data.longest,
    )
    plan = processes.from_first(lambda: planned)
    if processes.count > 1:
        logger.info("Processes: %d, which share %d gradient lanes", processes.count, lanes)
    logger.info("%s", plan.describe(count_layers(trainer.base), base.dequantized))
    trainer.use(plan)
    if schedule.patience:
        trainer.add_callback(EarlyStoppingCallback(schedule.patience))
    if schedule.last is not None:
        trainer.add_callback(StopAt(schedule.last))
    tokens, dev_tokens = (sum(map(len, rows)) for rows in (data.rows, data.dev_rows))
    rows = typical_rows(data.rows, schedule.batch_size, lanes * plan.micro_batch_tokens)
    speed, previewing, memory = measure(trainer, rows, preview if measured else None)
    seconds = expected_seconds(schedule, tokens, dev_tokens, speed, previewing)
    logger.info("%s", schedule.describe(seconds, memory))
    return trainer


class StopAt(TrainerCallback):  # type: ignore[misc]
    """Ends a training with a step, and saves it."""

    def __init__(self, last: int) -> None:
        self.last = last

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step >= self.last:
            control.should_training_stop = control.should_save = True


def measure(trainer: SummaryTrainer, rows: Sequence[Any], preview: Previews | None) -> tuple[float, float, int]:
    """Run a step on rows, of which nothing is learned, and a bit of the previews.

    Returns:
        Tokens of a training step a second, the seconds of previews, and the bytes in use meanwhile.
    """
    with random_state_kept():
        for _ in range(2 if torch.cuda.is_available() else 1):  # what is allocated or compiled at the first time, and
            trainer.rehearse(rows)  # on a GPU captured at the second
        began = time.perf_counter()
        trainer.rehearse(rows)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        speed = sum(map(len, rows)) / (time.perf_counter() - began)
        with trainer.generating():
            previewing = preview.seconds(trainer.model) if preview else 0.0
        return speed, previewing, peak_memory()


def train_from(trainer: SummaryTrainer, checkpoint: Path | None) -> None:
    """Train to the end, from a checkpoint on where there is one; the best weights are loaded then."""
    if checkpoint and is_last(checkpoint):
        # What is left to do is to load the best weights.
        trainer.args.num_train_epochs = 0
    with logging_redirect_tqdm():  # what is logged goes above the bar, not into it
        try:
            trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        except BaseException:
            if bar := trainer.pop_callback(SpeedBar):
                bar.close()
            raise


def write_adapter(
    folder: Path,
    trainer: SummaryTrainer,
    data: TrainingData,
    params: Params,
    base: dict[str, Any],
    ending: str,
    *,
    also: Collection[str] = (),
) -> None:
    """Write what a training ended with: the adapter, the prompt that it was trained with, and its model card.

    Args:
        base: the base model's manifest.
        ending: says how it ended, in one sentence.
        also: sections of params.yaml that shaped it beside `SECTIONS`.
    """
    with replacing(folder) as adapter:
        adapter.mkdir()
        save_adapter(trainer.model, adapter, base.get("repo", base["name"]))
        data.builder.settings.save(adapter)
        parameters = params.model_dump(include=SECTIONS.union(also), exclude=WITHOUT_EFFECT)
        write_text(adapter / "README.md", model_card(base, Training(data.sources, ending, parameters)))


def best_on_dev(trainer: SummaryTrainer, data: TrainingData) -> str:
    """How a training ended whose best step was chosen on dev."""
    loss = f"{trainer.state.best_metric:.4f} on {len(data.dev)} dev dialogues"
    return f"Best step: {trainer.state.best_global_step}, with a loss of {loss}."
