"""Train the QLoRA adapter: `python -m stages.train` writes models/adapter and models/training.

Run again after an interruption, it goes on from the last checkpoint and ends in the same weights.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from dvclive import Live
from peft import LoraConfig
from transformers import EarlyStoppingCallback, PreTrainedModel, ProgressCallback
from trl import SFTConfig

from stages.common.adapter import save_adapter, target_modules
from stages.common.checkpoints import MarkComplete, is_last, last_checkpoint, run_folder
from stages.common.errors import UserError, run_stage
from stages.common.files import read_json, remove, replacing, write_json, write_text
from stages.common.lora import use_lora_linear
from stages.common.matrix_rate import matrix_rate
from stages.common.memory import budget, count_layers, dequantise_base, make_plan
from stages.common.model import compute_dtype, has_fp8, load_base, load_tokenizer
from stages.common.model_card import Training, model_card
from stages.common.packing import TrainingRow
from stages.common.params import Params, load_params
from stages.common.preview import Preview
from stages.common.prompt import Example, PromptBuilder, PromptSettings, choose_examples
from stages.common.tables import read_table, references
from stages.common.tracking import SpeedBar, Speedometer, TrackWithLive
from stages.common.trainer import SummaryTrainer, as_dataset

MANIFEST = Path("models/base.json")
TRAIN = Path("data/merged/train.csv")
DEV = Path("data/checked/dev.csv")
ADAPTER = Path("models/adapter")
LOGS = Path("models/training")
SPEED = Path("metrics/train/speed.json")

SECTIONS = {"seed", "quantization", "prompt", "lora", "train"}
"""What a training reads of params.yaml."""
WITHOUT_EFFECT = {"train": {"preview_samples", "save_total_limit"}}
"""Of these the ones that leave the adapter as it is; what reads it need not run again for them."""

logger = logging.getLogger(__name__)


def prompt_settings(params: Params, train: pd.DataFrame, base: dict[str, Any]) -> PromptSettings:
    """The prompt's settings, with few-shot examples drawn from original training rows."""
    original = train[train["source"] == "original"].sort_values("fname")
    examples = [Example(row.fname, row.dialogue, row.summary) for row in original.itertuples(index=False)]
    return PromptSettings(
        style=base["prompt"],
        instruction=params.prompt.instruction,
        max_tokens=params.prompt.max_tokens,
        stop_token=base.get("stop_token"),
        examples=choose_examples(examples, params.prompt.few_shot, params.seed),
    )


def without_examples(train: pd.DataFrame, examples: tuple[Example, ...]) -> pd.DataFrame:
    """Leave out the rows shown as few-shot examples, and their augmented copies: a prompt must not tell its summary."""
    # A copy is named after its origin: `train_7.swap`.
    origin = train["fname"].where(train["source"] == "original", train["fname"].str.rpartition(".")[0])
    kept = train[~origin.isin([example.fname for example in examples])]
    if examples:
        logger.info("%d of %d rows held out: few-shot examples and copies of them", len(train) - len(kept), len(train))
    return kept


def training_rows(builder: PromptBuilder, dialogues: list[str], summaries: list[str]) -> list[TrainingRow]:
    """Token ids, one row a dialogue."""
    rows = [
        TrainingRow(builder.prompt_ids(dialogue), builder.completion_ids(summary))
        for dialogue, summary in zip(dialogues, summaries, strict=True)
    ]
    truncated = sum(builder.is_truncated(dialogue) for dialogue in dialogues)
    if truncated:
        logger.info("%d of %d dialogues lose turns to prompt.max_tokens", truncated, len(rows))
    return rows


def typical_steps(rows: Sequence[TrainingRow], batch_size: int, most: int = 32) -> list[list[int]]:
    """The lengths of the rows of some steps."""
    lengths = [len(row) for row in rows[: most * batch_size]]
    return [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]


def lora_config(params: Params, model: PreTrainedModel) -> LoraConfig:
    """PEFT's settings for this run."""
    lora = params.lora
    return use_lora_linear(
        LoraConfig(
            r=lora.r,
            lora_alpha=lora.alpha,
            lora_dropout=lora.dropout,
            target_modules=target_modules(lora.target_modules, model),
            use_rslora=lora.use_rslora,
            use_dora=lora.use_dora,
            rank_pattern=dict(lora.rank_pattern),
            task_type="CAUSAL_LM",
        )
    )


def sft_config(params: Params, run: Path) -> SFTConfig:
    """TRL's settings for this run."""
    train = params.train
    return SFTConfig(
        output_dir=str(run),
        seed=params.seed,
        num_train_epochs=train.epochs,
        learning_rate=train.learning_rate,
        lr_scheduler_type="cosine",
        warmup_steps=train.warmup_ratio,
        weight_decay=train.weight_decay,
        max_grad_norm=train.max_grad_norm,
        optim=train.optimizer,
        per_device_train_batch_size=train.batch_size,
        per_device_eval_batch_size=train.batch_size,
        gradient_checkpointing=False,  # the plan says which layers compute again
        neftune_noise_alpha=train.neftune_noise_alpha or None,
        # The base is loaded in its compute dtype and PEFT casts at the adapter, so autocast has nothing to add;
        # float16 needs it for loss scaling.
        bf16=False,
        fp16=compute_dtype(params.quantization.compute_dtype) is torch.float16,
        logging_steps=1,
        logging_nan_inf_filter=False,
        eval_strategy="steps",
        eval_steps=train.eval_steps,
        prediction_loss_only=True,
        save_strategy="steps",
        save_steps=train.eval_steps,
        save_total_limit=train.save_total_limit,
        load_best_model_at_end=True,
        # Early stopping goes on counting where an interrupted training left off.
        restore_callback_states_from_checkpoint=True,
        metric_for_best_model="eval_loss",
        greater_is_better=False,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        dataloader_pin_memory=False,
        report_to="none",
    )


def main() -> None:
    params = load_params()
    if torch.cuda.device_count() > 1:
        raise UserError(
            f"CUDA_VISIBLE_DEVICES: {torch.cuda.device_count()} GPUs are visible and training uses one; "
            "put CUDA_VISIBLE_DEVICES=0 before the command"
        )
    train, dev = read_table(TRAIN, "train"), read_table(DEV, "dev")
    fp8 = params.quantization.compute == "fp8"
    if fp8 and not has_fp8():
        raise UserError(
            "params.yaml: quantization.compute = 'fp8': needs a GPU of NVIDIA's Hopper generation or later; set bf16"
        )
    base = read_json(MANIFEST)
    settings = prompt_settings(params, train, base)
    train = without_examples(train, settings.examples)
    identity = params.model_dump(include=SECTIONS)
    identity["max_new_tokens"] = params.decoding.max_new_tokens
    run = run_folder(identity, [TRAIN, DEV, MANIFEST])
    checkpoint = last_checkpoint(run)
    if checkpoint:
        logger.info("Going on from %s of an interrupted training", checkpoint.name)

    builder = PromptBuilder(load_tokenizer(MANIFEST), settings)
    rows = training_rows(builder, train["dialogue"].tolist(), train["summary"].tolist())
    dev_references = references(dev)
    dev_rows = training_rows(builder, dev["dialogue"].tolist(), [refs[0] for refs in dev_references])
    rate = matrix_rate("cuda" if torch.cuda.is_available() else "cpu", compute_dtype(params.quantization.compute_dtype))
    model = load_base(MANIFEST, params.quantization)
    speed = Speedometer(model.num_parameters(), rate)
    memory = budget(params.train.memory)
    dequantised = (
        params.quantization.load_in_4bit
        and not fp8  # which makes its own of the 4-bit weights
        and dequantise_base(params.train.dequantize, model.num_parameters(), memory)
    )
    if dequantised:
        model = model.dequantize()
    preview = Preview(
        builder,
        dev["fname"].tolist(),
        dev["dialogue"].tolist(),
        dev_references,
        n=params.train.preview_samples,
        max_new_tokens=params.decoding.max_new_tokens,
        batch_size=params.train.batch_size,
        folder=run / "previews",
    )
    remove(SPEED)
    with replacing(LOGS) as logs, Live(str(logs), dvcyaml=False, save_dvc_exp=False) as live:
        trainer = SummaryTrainer(
            model=model,
            args=sft_config(params, run),
            train_dataset=as_dataset(rows),
            eval_dataset=as_dataset(dev_rows),
            processing_class=builder.tokenizer,
            peft_config=lora_config(params, model),
            callbacks=[MarkComplete(), speed, TrackWithLive(live)],
            preview=lambda step: preview.run(trainer.model, step),
            lora_plus_ratio=params.lora.plus_ratio,
            fp8=fp8,
        )
        if trainer.pop_callback(ProgressCallback):
            trainer.add_callback(SpeedBar(speed))
        plan = make_plan(
            trainer.base,
            trainer.probe,
            max_tokens=params.train.max_tokens_per_batch,
            checkpointed_layers=params.train.checkpointed_layers,
            memory=memory,
            steps=typical_steps(rows, params.train.batch_size),
            longest=max(map(len, [*rows, *dev_rows])),
        )
        logger.info("%s", plan.describe(count_layers(trainer.base), dequantised))
        trainer.use(plan)
        if params.train.early_stopping_patience:
            trainer.add_callback(EarlyStoppingCallback(params.train.early_stopping_patience))
        if checkpoint and is_last(checkpoint):
            # What is left to do is to load the best weights.
            trainer.args.num_train_epochs = 0
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        live.log_metric("best/step", trainer.state.best_global_step, plot=False)
        live.log_metric("best/eval_loss", trainer.state.best_metric, plot=False)
        live.log_metric("rows", len(rows), plot=False)
        preview.copy_to(logs / "previews")
    with replacing(ADAPTER) as adapter:
        adapter.mkdir()
        save_adapter(trainer.model, adapter, base.get("repo", base["name"]))
        settings.save(adapter)
        training = Training(
            rows=train["source"].value_counts().to_dict(),
            dev_rows=len(dev),
            best_step=trainer.state.best_global_step,
            eval_loss=trainer.state.best_metric,
            parameters=params.model_dump(include=SECTIONS, exclude=WITHOUT_EFFECT),
        )
        write_text(adapter / "README.md", model_card(base, training))
    if speed.steps:
        write_json(SPEED, speed.report())
        logger.info(
            "%s; the rate is %.2f TFLOP/s, and a token takes 4 FLOP for each of %s weights",
            *(speed.describe(), rate / 1e12, f"{speed.weights:,}"),
        )
    remove(run)


if __name__ == "__main__":
    run_stage(main)
