"""Training speed on a GPU: ours against the usual settings, for base models of real shapes with random weights.

    python -m benchmarks.train --shape solar-10b --output solar.jsonl
    python -m benchmarks.train --shape gemma3-270m --rows four dialogues --arms 2 11

Prints a table: useful tokens a second (no padding), peak memory, and the share of the matrix rate that was measured in
the same run: 4N FLOP a token for N weights, since frozen weights take part in the forward pass and in the gradient of
the activations, and recomputation is not useful work. Rows are all of 2,048 tokens, as long as dialogues of the
competition with their prompt, or four of 900 tokens together, as a step on the sample has. Ours plans by itself what to
do with the memory that a card of so many GB has.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedConfig

from benchmarks.random_models import SHAPES, random_model, save_random_model
from stages.core.errors import UserError
from stages.layers.chunked_loss import token_losses
from stages.layers.fused_layer import fuse, refresh
from stages.layers.lora_linear import use_lora_linear
from stages.layers.packed_attention import PACKED, use_attention
from stages.layers.packed_rows import IGNORED, Packed, TrainingRow, pack, split
from stages.models.families import logit_softcap
from stages.training.graphed_losses import GraphedLosses
from stages.training.matrix_rate import matrix_rate
from stages.training.memory_plan import (
    GIB,
    MemoryPlan,
    budget,
    count_layers,
    dequantize_base,
    make_plan,
    set_recomputed,
    trainable,
)

KINDS = ("dialogues", "2048", "four")
WARM_UP = 2
SEED = 0


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    steps: int = 4
    """Steps that are timed, after those that warm up."""
    tokens: int = 0
    """The usual way: tokens of a padded micro-batch at most; 0: one row."""
    card: float | None = None
    """Our way: GiB of the card whose memory is used; what is sold as 24 GB has about as many. 0: the least."""
    fp8: bool = False
    fused: bool = True
    """Our way: layers are fused, not those of transformers."""
    graphed: bool = True
    """Our way: small models' steps are CUDA graphs."""
    checkpointed: bool = True
    """Not our way: all layers are recomputed."""


ARMS = [
    Arm("usual: PEFT, 4-bit, checkpointing, one row at a time", steps=1),
    Arm("usual: PEFT, 4-bit, checkpointing, padded batches", steps=2, tokens=16384),
    Arm("ours, a card of 80 GB", card=80),
    Arm("ours, a card of 40 GB", card=40),
    Arm("ours, a card of 24 GB", card=24),
    Arm("ours, a card of 16 GB", card=16),
    Arm("ours, a card of 12 GB", card=12),
    Arm("ours, FP8, a card of 80 GB", card=80, fp8=True),
    Arm("ours, FP8, a card of 48 GB", card=48, fp8=True),
    Arm("ours, a card of 48 GB", card=48),
    Arm("ours, in the least memory", card=0),
    Arm("ours, layers of transformers, a card of 80 GB", card=80, fused=False),
    Arm("ours, no CUDA graphs, a card of 80 GB", card=80, graphed=False),
]


UNSLOTH = [
    Arm("Unsloth, 4-bit, its checkpointing", tokens=16384),
    Arm("Unsloth, 4-bit", tokens=8192, checkpointed=False),
]


def fixed_rows(length: int, count: int, words: int, rng: random.Random) -> list[TrainingRow]:
    """Rows of one length, an eighth of it predicted."""
    return [_row(length * 7 // 8, length // 8, words, rng) for _ in range(count)]


def dialogue_rows(count: int, words: int, rng: random.Random) -> list[TrainingRow]:
    """Rows as long as the competition's, at 2.4 tokens a character and 75 for the instruction.

    Dialogues have 84 to 2,165 characters, median 369, mean 406; summaries 0.22 times as many.
    """
    rows = []
    for _ in range(count):
        characters = min(max(369 * 2.718281828 ** rng.gauss(0, 0.437), 84), 2165)
        rows.append(_row(75 + round(2.4 * characters), round(2.4 * 0.22 * characters), words, rng))
    return rows


def _row(prompt: int, completion: int, words: int, rng: random.Random) -> TrainingRow:
    return TrainingRow(rng.choices(range(3, words), k=prompt), rng.choices(range(3, words), k=completion))


def build(config: PreTrainedConfig, arm: Arm) -> PeftModel:
    """The model with random weights and an adapter on all linear layers."""
    ours = arm.card is not None
    dense = ours and not arm.fp8 and dequantize_base("auto", count_weights(config), budget(arm.card or 0))
    model = random_model(config, nf4=not dense)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, use_lora_linear(lora) if ours else lora)
    for parameter in trainable(adapted):
        parameter.data = parameter.data.float()
    if ours:
        use_attention(model, PACKED)
        if arm.fused:
            fuse(model, fp8=arm.fp8)
    else:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    gc.collect()
    torch.cuda.empty_cache()
    return adapted.train()


def plan_for(model: PeftModel, arm: Arm, steps: Sequence[list[TrainingRow]]) -> MemoryPlan:
    """What training would plan for these rows on the arm's card; in the least memory, a row at a time."""
    longest = max(len(row) for rows in steps for row in rows)
    if arm.card == 0:
        plan = MemoryPlan(longest, count_layers(model.get_base_model()))
        set_recomputed(model.get_base_model(), plan.recomputed_layers)
        return plan

    def probe(tokens: int) -> None:
        refresh(model.get_base_model())
        torch.autograd.backward([our_loss(model, [_row(tokens // 2, tokens - tokens // 2, 100, random.Random(SEED))])])
        model.zero_grad(set_to_none=True)

    plan = make_plan(
        model.get_base_model(),
        probe,
        micro_batch_tokens="auto",
        recomputed_layers="auto",
        memory=budget(arm.card or 0),
        steps=[[len(row) for row in rows] for rows in steps],
        longest=longest,
    )
    set_recomputed(model.get_base_model(), plan.recomputed_layers)
    return plan


def micro_batches(arm: Arm, rows: list[TrainingRow], plan: MemoryPlan | None) -> Iterator[list[TrainingRow]]:
    """The rows of a step in the order in which the arm trains on them."""
    if plan is not None:
        for batch in split([len(row) for row in rows], plan.micro_batch_tokens):
            yield [rows[row] for row in batch]
    else:
        size = max(1, arm.tokens // max(map(len, rows)))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def our_loss(model: PeftModel, rows: list[TrainingRow]) -> torch.Tensor:
    return packed_losses(model, pack(rows, "cuda")).sum()


def packed_losses(model: PeftModel, packed: Packed) -> torch.Tensor:
    """The loss of each predicted token."""
    base = model.get_base_model()
    hidden = base.base_model(**packed.inputs, use_cache=False).last_hidden_state[0]
    softcap = logit_softcap(base.config)
    return token_losses(hidden[packed.positions], packed.targets, base.get_output_embeddings().weight, softcap)


def usual_loss(model: PeftModel, rows: list[TrainingRow]) -> torch.Tensor:
    """Padded rows, logits of every position, mixed precision by autocast, as trainers do by default."""
    width = max(map(len, rows))
    ids = torch.tensor([row.input_ids + [0] * (width - len(row)) for row in rows], device="cuda")
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows], device="cuda")
    labels = torch.tensor([row.labels + [IGNORED] * (width - len(row)) for row in rows], device="cuda")
    with torch.autocast("cuda", torch.bfloat16):
        logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits
    return cross_entropy(
        logits[:, :-1].float().flatten(0, 1), labels[:, 1:].flatten(), ignore_index=IGNORED, reduction="sum"
    )


def measure(model: PeftModel, arm: Arm, steps: Sequence[list[TrainingRow]], rate: float) -> dict[str, Any]:
    """Train on the rows of each step in turn; the first ones warm up and compile."""
    plan = plan_for(model, arm, steps) if arm.card is not None else None
    optimizer = torch.optim.AdamW(trainable(model), lr=1e-4, fused=True)
    loss_of: Callable[[PeftModel, list[TrainingRow]], torch.Tensor] = our_loss if plan else usual_loss
    graphed = GraphedLosses(model.get_base_model(), partial(packed_losses, model))
    steps = steps[: WARM_UP + arm.steps] if plan else steps[: 1 + arm.steps]
    times: list[float] = []
    gc.collect()
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    for rows in steps:
        labelled = sum(len(row.completion_ids) for row in rows)
        torch.cuda.synchronize()
        began = time.perf_counter()
        batches = list(micro_batches(arm, rows, plan))
        # As the trainer does.
        small = plan and arm.graphed and len(batches) == 1 and not plan.recomputed_layers
        if plan and not small:
            refresh(model.get_base_model())
        for batch in batches:
            loss = graphed(pack(batch, "cuda")).sum() if small else loss_of(model, batch)
            torch.autograd.backward([loss / labelled])
            del loss  # what autograd keeps for it must not be there when a graph is captured
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    layers = count_layers(model.get_base_model())
    return {
        **summary(steps, times, arm, model.get_base_model().config, rate),
        "plan": f"{plan.micro_batch_tokens} tokens, {plan.recomputed_layers}/{layers} recomputed" if plan else "",
    }


def summary(
    steps: Sequence[list[TrainingRow]], times: Sequence[float], arm: Arm, config: PreTrainedConfig, rate: float
) -> dict[str, Any]:
    """Speed of the last steps, and the most memory that was taken."""
    speeds = [sum(map(len, rows)) / seconds for rows, seconds in zip(steps, times, strict=True)]
    speed = statistics.median(speeds[-arm.steps :])
    return {
        "tokens/s": round(speed),
        "peak GiB": round(torch.cuda.max_memory_allocated() / GIB, 1),
        "share": round(speed * 4 * count_weights(config) / rate, 3),
        "first step, s": round(times[0], 1),
    }


def count_weights(config: PreTrainedConfig) -> int:
    """All weights of a model, embeddings included."""
    with torch.device("meta"):
        return sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())


def rows_of(kind: str, config: PreTrainedConfig) -> list[list[TrainingRow]]:
    """The rows of each step: 16 thousand tokens of one length, 16 dialogues, or four short rows."""
    rng = random.Random(SEED)
    words = config.vocab_size
    steps = WARM_UP + max(arm.steps for arm in ARMS)
    if kind == "2048":
        return [fixed_rows(2048, 8, words, rng) for _ in range(steps)]
    if kind == "four":
        return [[fixed_rows(length, 1, words, rng)[0] for length in (150, 200, 250, 300)] for _ in range(steps)]
    return [dialogue_rows(16, words, rng) for _ in range(steps)]


def measure_unsloth(
    python: Path, shape: str, kinds: Sequence[str], rate: float, arms: Sequence[int]
) -> Iterator[dict[str, Any]]:
    """Unsloth's arms, each in a process of its own and on the same random checkpoint."""
    with TemporaryDirectory() as folder:
        save_random_model(SHAPES[shape], Path(folder))
        gc.collect()
        torch.cuda.empty_cache()
        quiet = {"HF_HUB_OFFLINE": "1", "UNSLOTH_COMPILE_LOCATION": f"{folder}/compiled"}
        for arm in arms:
            command = [str(python), "-m", "benchmarks.train_unsloth", folder, "--shape", shape]
            command += ["--arm", str(arm), "--rate", str(rate), "--rows", *kinds]
            run = subprocess.run(command, env={**os.environ, **quiet}, stdout=subprocess.PIPE, text=True)
            yield from (json.loads(line) for line in run.stdout.splitlines() if line.startswith("{"))
            if run.returncode:
                print(f"{UNSLOTH[arm].name}: ended with {run.returncode}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="solar-10b")
    parser.add_argument("--rows", choices=KINDS, nargs="*", default=KINDS[:2])
    parser.add_argument("--arms", type=int, nargs="*", default=range(len(ARMS)), help="which arms, counted from 0")
    parser.add_argument("--unsloth", type=Path, help="the interpreter of an environment with Unsloth")
    parser.add_argument("--unsloth-arms", type=int, nargs="*", default=range(len(UNSLOTH)), help="which of its arms")
    parser.add_argument("--output", type=Path, help="a file for the results, JSON lines")
    options = parser.parse_args()
    config = SHAPES[options.shape]
    rate = matrix_rate("cuda", torch.bfloat16)
    print(f"{options.shape}, matrix rate {rate / 1e12:.0f} TFLOP/s", flush=True)
    results: list[dict[str, Any]] = []

    def report(result: dict[str, Any]) -> None:
        results.append(result)
        print(json.dumps(result), flush=True)
        if options.output:
            with options.output.open("a") as file:
                file.write(json.dumps(result) + "\n")

    for arm in (ARMS[index] for index in options.arms):
        model = build(config, arm)
        for kind in options.rows:
            result = {"arm": arm.name, "shape": options.shape, "rows": kind}
            try:
                result |= measure(model, arm, rows_of(kind, config), rate)
            except (torch.OutOfMemoryError, UserError) as error:
                result |= {"tokens/s": None, "plan": str(error).splitlines()[0]}
            report(result)
        del model
        gc.collect()
        torch.cuda.empty_cache()
    if options.unsloth:
        for result in measure_unsloth(options.unsloth, options.shape, options.rows, rate, options.unsloth_arms):
            report(result)
    else:
        print("Unsloth: skipped; name the interpreter of an environment that has it with --unsloth")
    print(pd.DataFrame(results).to_markdown(index=False))


if __name__ == "__main__":
    main()
