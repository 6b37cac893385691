"""One training step of ours against plain TRL's, on the base model and merged rows of the last `dvc repro`.

    python -m benchmarks.train_step

Both train the same NF4 base with the same adapter on the same rows, in turn; the ratio is what to quote.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedModel
from trl import SFTConfig, SFTTrainer

from stages.core import paths
from stages.core.files import read_json
from stages.core.params import load_params
from stages.corpus.tables import read_table
from stages.layers.lora_linear import use_lora_linear
from stages.layers.packed_rows import IGNORED, TrainingRow
from stages.models.load import load_base
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer
from stages.training.memory_plan import CPU_MICRO_BATCH_TOKENS, MemoryPlan, make_plan
from stages.training.trainer import SummaryTrainer, as_dataset

STEPS = 5


def step(trainer: SFTTrainer, batch: dict[str, Any]) -> float:
    """Seconds for one forward and backward pass over all rows as one batch."""
    trainer.model.train()
    began = time.perf_counter()
    if isinstance(trainer, SummaryTrainer):
        trainer.training_step(trainer.model, batch)
    else:
        trainer.compute_loss(trainer.model, batch).backward()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    trainer.model.zero_grad()
    return time.perf_counter() - began


def padded(rows: Sequence[TrainingRow], pad: int) -> dict[str, torch.Tensor]:
    """The batch that TRL's own collator makes."""
    width = max(map(len, rows))
    return {
        "input_ids": torch.tensor([row.input_ids + [pad] * (width - len(row)) for row in rows]),
        "attention_mask": torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows]),
        "labels": torch.tensor([row.labels + [IGNORED] * (width - len(row)) for row in rows]),
    }


def main() -> None:
    params = load_params()
    base = read_json(paths.MANIFEST)
    settings = PromptSettings(base["prompt"], params.prompt.instruction, params.prompt.max_tokens, None, ())
    builder = PromptBuilder(load_tokenizer(paths.MANIFEST), settings)
    table = read_table(paths.MERGED, "train").head(params.train.batch_size)
    rows = [
        TrainingRow(builder.prompt_ids(dialogue), builder.completion_ids(summary))
        for dialogue, summary in zip(table["dialogue"], table["summary"], strict=True)
    ]

    def build(kind: type[SFTTrainer], model: PreTrainedModel, output: str, **kwargs: Any) -> SFTTrainer:
        lora = LoraConfig(r=params.lora.r, lora_alpha=params.lora.alpha, target_modules="all-linear")
        return kind(
            model=model,
            args=SFTConfig(
                output_dir=output,
                bf16=False,
                gradient_checkpointing=False,
                max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True},
                report_to="none",
            ),
            train_dataset=as_dataset(rows),
            processing_class=builder.tokenizer,
            peft_config=use_lora_linear(lora) if kind is SummaryTrainer else lora,
            **kwargs,
        )

    with tempfile.TemporaryDirectory() as output:
        nf4 = load_base(paths.MANIFEST, params.quantization)
        ours = build(
            SummaryTrainer, load_base(paths.MANIFEST, params.quantization).dequantize(), output, preview=no_preview
        )
        ours.use(MemoryPlan(CPU_MICRO_BATCH_TOKENS, 0))
        packed = build(SummaryTrainer, load_base(paths.MANIFEST, params.quantization), output, preview=no_preview)
        packed.use(MemoryPlan(CPU_MICRO_BATCH_TOKENS, 0))
        arms: dict[str, tuple[SFTTrainer, dict[str, Any]]] = {
            "plain TRL, 4-bit": (build(SFTTrainer, nf4, output), padded(rows, builder.pad_id)),
            "ours, 4-bit": (packed, {"rows": rows}),
            "ours, dequantized once": (ours, {"rows": rows}),
        }
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for turn in range(STEPS + 1):
            for name, (trainer, batch) in arms.items():
                took = step(trainer, dict(batch))
                if turn:  # the first turn warms up
                    seconds[name].append(took)
    tokens = sum(map(len, rows))
    plain = seconds["plain TRL, 4-bit"]
    for name, times in seconds.items():
        ratios = [slow / fast for slow, fast in zip(plain, times, strict=True)]
        speed, ratio = tokens / statistics.median(times), statistics.median(ratios)
        spread = f"({min(ratios):.1f} to {max(ratios):.1f}; {STEPS} steps of {tokens} tokens)"
        print(f"{name:<24} {speed:6.0f} tokens/s, {ratio:4.1f} times plain TRL {spread}")


def no_preview(step: int) -> dict[str, float]:
    return {}


def plan_of(
    trainer: SummaryTrainer, rows: Sequence[TrainingRow], steps: Sequence[Sequence[int]], memory: float
) -> MemoryPlan:
    """The plan that training would make with all of its settings on auto.

    Args:
        steps: the lengths of the rows of some steps.
        memory: what `budget` gave.
    """
    return make_plan(
        trainer.base,
        trainer.probe,
        micro_batch_tokens="auto",
        recomputed_layers="auto",
        memory=memory,
        steps=steps,
        longest=max(map(len, rows)),
    )


if __name__ == "__main__":
    main()
