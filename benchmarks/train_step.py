"""One training step of ours against plain TRL's, on the base model and merged rows of the last `dvc repro`.

    python -m benchmarks.train_step

Both train the same NF4 base with the same adapter on the same rows, in turn; the ratio is what to quote.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from datasets import Dataset
from peft import LoraConfig
from trl import SFTConfig, SFTTrainer

from stages.common.files import read_json
from stages.common.model import load_base, load_tokenizer
from stages.common.params import load_params
from stages.common.prompt import PromptBuilder, PromptSettings
from stages.common.tables import read_table
from stages.common.trainer import CompletionCollator, SummaryTrainer, TrainingRow

MANIFEST = Path("models/base.json")
TRAIN = Path("data/merged/train.csv")
STEPS = 5


def step(trainer: SFTTrainer, rows: Dataset) -> float:
    """Seconds for one forward and backward pass over all rows as one batch."""
    batch = trainer.data_collator([rows[i] for i in range(len(rows))])
    batch = {name: value.to(trainer.model.device) for name, value in batch.items()}
    trainer.model.train()
    began = time.perf_counter()
    trainer.compute_loss(trainer.model, batch).backward()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    trainer.model.zero_grad()
    return time.perf_counter() - began


def main() -> None:
    params = load_params()
    base = read_json(MANIFEST)
    settings = PromptSettings(base["prompt"], params.prompt.instruction, params.prompt.max_tokens, None, ())
    builder = PromptBuilder(load_tokenizer(MANIFEST), settings)
    table = read_table(TRAIN, "train").head(params.train.batch_size)
    rows = Dataset.from_list(
        [
            TrainingRow(builder.prompt_ids(dialogue), builder.completion_ids(summary)).as_features()
            for dialogue, summary in zip(table["dialogue"], table["summary"], strict=True)
        ]
    )
    tokens = sum(len(row["input_ids"]) for row in rows)

    def build(kind: Callable[..., SFTTrainer], output: str, **kwargs: object) -> SFTTrainer:
        return kind(
            model=load_base(MANIFEST, params.quantization),
            args=SFTConfig(
                output_dir=output,
                bf16=False,
                gradient_checkpointing=False,
                max_length=None,
                dataset_kwargs={"skip_prepare_dataset": True},
                report_to="none",
            ),
            train_dataset=rows,
            processing_class=builder.tokenizer,
            peft_config=LoraConfig(r=params.lora.r, lora_alpha=params.lora.alpha, target_modules="all-linear"),
            **kwargs,
        )

    with tempfile.TemporaryDirectory() as output:
        arms = {
            "plain TRL": build(SFTTrainer, output),
            "ours": build(
                SummaryTrainer, output, data_collator=CompletionCollator(builder.pad_id), preview=lambda _: {}
            ),
        }
        seconds: dict[str, list[float]] = {name: [] for name in arms}
        for turn in range(STEPS + 1):
            for name, trainer in arms.items():
                took = step(trainer, rows)
                if turn:  # the first turn warms up
                    seconds[name].append(took)
    for name, times in seconds.items():
        print(
            f"{name:<10} {tokens / statistics.median(times):8.0f} tokens/s (median of {STEPS} steps, {tokens} tokens)"
        )
    ratios = [plain / own for plain, own in zip(seconds["plain TRL"], seconds["ours"], strict=True)]
    print(f"ours is {statistics.median(ratios):.1f} times plain TRL ({min(ratios):.1f} to {max(ratios):.1f})")


if __name__ == "__main__":
    main()
