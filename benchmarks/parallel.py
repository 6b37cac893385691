"""Training on several GPUs against one, with equal steps, and whether both learn the same; plain TRL beside them.

    NCCL_NVLS_ENABLE=0 python -m benchmarks.parallel --gpus 2 --output parallel.jsonl

A base model of a real shape with random weights, rows as long as the competition's dialogues, 32 of them in a step.
Useful tokens a second (no padding) are those of all GPUs together, by the steps after the warm-up. TRL shares rows by
accelerate's DDP, with 4-bit weights and its own gradient checkpointing. The losses of 50 steps are those of the shape
cut to 4 layers: twice on one GPU, and on all. Each arm is a `torchrun` of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import random
import subprocess
import sys
import time
from collections.abc import Sequence
from copy import deepcopy
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from peft import LoraConfig
from transformers import PreTrainedConfig, TrainerCallback, set_seed
from trl import SFTConfig, SFTTrainer

from benchmarks.random_models import SHAPES, random_model, random_tokenizer
from benchmarks.train import count_weights, dialogue_rows
from benchmarks.train_step import no_preview, padded, plan_of
from stages.core.params import Params, load_params
from stages.layers.packed_rows import TrainingRow
from stages.training.data import typical_steps
from stages.training.memory_plan import budget, dequantize_base
from stages.training.processes import Processes, together
from stages.training.trainer import SummaryTrainer, as_dataset
from stages.training.trl_settings import lora_config, sft_config

BATCH = 32
KINDS = {"ours": (2, 4), "losses": (2, 48), "trl": (1, 2)}
"""Steps of the warm-up, and after it."""
LAYERS = 4
"""Of the model whose losses are compared."""
PER_DEVICE = 8
"""Rows that TRL takes at once."""
RESULT = "result: "


class Times(TrainerCallback):  # type: ignore[misc]
    """When each step ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.ends.append(time.perf_counter())


def ours(
    config: PreTrainedConfig, rows: list[TrainingRow], processes: Processes, params: Params, output: str
) -> SummaryTrainer:
    """The trainer of `stages.train`, with the plan that it would make."""
    memory = processes.least(budget("auto"))
    model = random_model(config, nf4=not dequantize_base("auto", count_weights(config), memory))
    args = sft_config(params, Path(output), 1, model.dtype, measured=False)
    args.save_strategy = "no"
    trainer = SummaryTrainer(
        model=model,
        args=args,
        train_dataset=as_dataset(rows),
        processing_class=random_tokenizer(config),
        peft_config=lora_config(params, model),
        preview=no_preview,
        lanes=processes.count,
        processes=processes,
    )
    share = [row[: BATCH // processes.count] for row in typical_steps(rows, BATCH)]
    plan = plan_of(trainer, rows, share, memory)
    trainer.use(processes.from_first(lambda: plan))
    return trainer


def plain(config: PreTrainedConfig, rows: list[TrainingRow], gpus: int, output: str) -> SFTTrainer:
    """TRL's trainer, which accelerate makes one of several."""
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    args = SFTConfig(
        output_dir=output,
        per_device_train_batch_size=PER_DEVICE,
        gradient_accumulation_steps=BATCH // PER_DEVICE // gpus,
        gradient_checkpointing_kwargs={"use_reentrant": False},
        num_train_epochs=1,
        learning_rate=1e-3,
        bf16=torch.cuda.is_available(),
        save_strategy="no",
        report_to="none",
        logging_steps=1,
        max_length=None,
        dataset_kwargs={"skip_prepare_dataset": True},
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    return SFTTrainer(
        model=random_model(config, nf4=True),
        args=args,
        train_dataset=as_dataset(rows),
        processing_class=random_tokenizer(config),
        peft_config=LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM"),
        data_collator=lambda batch: padded([TrainingRow(**row) for row in batch], 0),
    )


def train(kind: str, shape: str) -> None:
    """What one process of an arm does; the first prints what was measured."""
    config, (warm_up, timed) = deepcopy(SHAPES[shape]), KINDS[kind]
    steps = warm_up + timed
    if kind == "losses":
        config.num_hidden_layers = LAYERS
    # Each row twice, so that there is something to learn.
    rows = 2 * dialogue_rows(steps * BATCH // 2, config.vocab_size, random.Random(0))
    values = load_params()
    changed = {"epochs": 1, "batch_size": BATCH, "learning_rate": 1e-3}
    params = values.model_copy(update={"train": values.train.model_copy(update=changed)})
    rank, gpus = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    times = Times()

    def run(trainer: SFTTrainer) -> None:
        trainer.add_callback(times)
        trainer.train()
        tokens = sum(map(len, rows)) / steps * timed
        result = {
            "tokens/s": round(tokens / (times.ends[-1] - times.ends[warm_up - 1])),
            "peak GiB": round(torch.cuda.max_memory_allocated() / 2**30, 1),
            "losses": [entry["loss"] for entry in trainer.state.log_history if "loss" in entry],
        }
        if rank == 0:
            print(RESULT + json.dumps(result), flush=True)

    set_seed(0)
    with TemporaryDirectory() as output:
        if kind == "trl":
            run(plain(config, rows, gpus, output))
            return
        with together(params.train, "benchmarks.parallel") as processes:
            run(ours(config, rows, processes, params, output))


def measure(kind: str, gpus: int, shape: str) -> dict[str, Any]:
    """Run an arm on so many GPUs; the last line that it says, where it fails."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={gpus}"]
    command += ["-m", "benchmarks.parallel", "--kind", kind, "--shape", shape]
    began = time.perf_counter()
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    lines = [line.split(RESULT, 1)[1] for line in done.stdout.splitlines() if RESULT in line]
    measured = json.loads(lines[0]) if lines else {"failed": done.returncode}
    return {"arm": kind, "gpus": gpus, "shape": shape, **measured, "seconds": round(time.perf_counter() - began)}


def largest_difference(one: Sequence[float], other: Sequence[float]) -> float:
    """Of the losses at each step.

    >>> largest_difference([3.0, 2.0], [3.0, 1.5])
    0.5
    """
    return max(abs(a - b) for a, b in zip(one, other, strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--gpus", type=int, default=2)
    parser.add_argument("--shape", choices=SHAPES, default="solar-10b")
    parser.add_argument("--arms", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--output", type=Path, help="a file for the results, JSON lines")
    parser.add_argument("--kind", choices=KINDS, help="what a process of torchrun is given")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    if options.kind:
        train(options.kind, options.shape)
        return
    found: dict[str, list[dict[str, Any]]] = {}
    for kind in options.arms:
        for gpus in (1, 1, options.gpus) if kind == "losses" else (1, options.gpus):
            result = measure(kind, gpus, options.shape)
            found.setdefault(kind, []).append(result)
            print(json.dumps(result), flush=True)
            if options.output:
                with options.output.open("a") as file:
                    file.write(json.dumps(result) + "\n")
    for kind, (one, *_, several) in found.items():
        if kind != "losses" and "failed" not in one | several:
            print(f"{kind}: {options.gpus} GPUs are {several['tokens/s'] / one['tokens/s']:.2f} times as fast as one")
    if all("failed" not in run for run in found.get("losses", [])) and "losses" in found:
        first, again, several = (run["losses"] for run in found["losses"])
        print(f"losses: one GPU and again differ by up to {largest_difference(first, again):.5f}")
        print(f"losses: one GPU and {options.gpus} differ by up to {largest_difference(first, several):.5f}")


if __name__ == "__main__":
    main()
