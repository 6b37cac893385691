"""Unsloth's training speed, on a checkpoint that it loads and the steps of `benchmarks.train`, which starts this.

It runs in a process of its own, since Unsloth patches Transformers when imported, and in an environment of its own,
since it wants older versions. It prints a line of JSON for each kind of rows.
"""

from __future__ import annotations

import unsloth  # isort: skip  # before all that it patches

import argparse
import json
import sys
import time
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedConfig

from benchmarks.random_models import SHAPES
from benchmarks.train import KINDS, UNSLOTH, WARM_UP, Arm, rows_of, summary
from stages.layers.packed_rows import TrainingRow, pack, split
from stages.training.memory_plan import trainable


def load(folder: Path, config: PreTrainedConfig, arm: Arm) -> Any:
    """The model as Unsloth's own notebooks make it, ready to train."""
    checkpointing = "unsloth" if arm.checkpointed else False
    model, _ = unsloth.FastLanguageModel.from_pretrained(
        str(folder),
        max_seq_length=config.max_position_embeddings,
        dtype=torch.bfloat16,
        load_in_4bit=True,
        use_gradient_checkpointing=checkpointing,
        local_files_only=True,
    )
    model = unsloth.FastLanguageModel.get_peft_model(
        model,
        r=16,
        lora_alpha=32,
        lora_dropout=0,
        target_modules=["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
        use_gradient_checkpointing=checkpointing,
    )
    return unsloth.FastLanguageModel.for_training(model, use_gradient_checkpointing=checkpointing)


def batches(arm: Arm, rows: list[TrainingRow]) -> Iterator[dict[str, torch.Tensor]]:
    """What Unsloth's trainer hands the model: rows of one length side by side, others end to end without padding."""
    for positions in split([len(row) for row in rows], arm.tokens):
        batch = [rows[position] for position in positions]
        if len({len(row) for row in batch}) == 1:
            yield {
                "input_ids": torch.tensor([row.input_ids for row in batch], device="cuda"),
                "labels": torch.tensor([row.labels for row in batch], device="cuda"),
            }
        else:
            packed = pack(batch, "cuda").inputs
            yield {
                "input_ids": torch.as_tensor(packed["input_ids"]),
                "position_ids": torch.as_tensor(packed["position_ids"]),
                "labels": torch.tensor([list(chain.from_iterable(row.labels for row in batch))], device="cuda"),
                "packed_seq_lengths": torch.tensor([len(row) for row in batch], dtype=torch.int32),
            }


def measure(model: Any, arm: Arm, config: PreTrainedConfig, kind: str, rate: float) -> dict[str, Any]:
    """Train on the rows of each step in turn, in mixed precision as Unsloth's trainer does."""
    optimizer = torch.optim.AdamW(trainable(model), lr=1e-4, fused=True)
    steps = rows_of(kind, config)[: WARM_UP + arm.steps]
    times: list[float] = []
    torch.cuda.reset_peak_memory_stats()
    for rows in steps:
        labelled = torch.tensor(sum(len(row.completion_ids) for row in rows), device="cuda")
        torch.cuda.synchronize()
        began = time.perf_counter()
        total = torch.zeros((), device="cuda")
        for batch in batches(arm, rows):
            with torch.autocast("cuda", torch.bfloat16):
                loss = model(**batch, num_items_in_batch=labelled).loss
            torch.autograd.backward([loss])
            total += loss.detach()
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
        print(f"{arm.name}: loss {float(total):.3f} in {times[-1]:.2f} s", file=sys.stderr, flush=True)
    return summary(steps, times, arm, config, rate)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the checkpoint")
    parser.add_argument("--shape", choices=SHAPES, required=True)
    parser.add_argument("--rows", choices=KINDS, nargs="+", required=True)
    parser.add_argument("--arm", type=int, required=True, help="which arm, counted from 0")
    parser.add_argument("--rate", type=float, required=True, help="matrix rate, FLOP a second")
    options = parser.parse_args()
    arm, config = UNSLOTH[options.arm], SHAPES[options.shape]
    model = load(options.folder, config, arm)
    for kind in options.rows:
        result = {"arm": arm.name, "shape": options.shape, "rows": kind}
        try:
            result |= measure(model, arm, config, kind, options.rate)
        except torch.OutOfMemoryError:
            result |= {"tokens/s": None}
        print(json.dumps(result), flush=True)


if __name__ == "__main__":
    main()
