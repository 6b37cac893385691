"""Training speed on a GPU: ours against the usual settings, for base models of real shapes with random weights.

    python -m benchmarks.train --shape solar-10b

Prints a table as it goes: useful tokens a second (no padding), peak memory, and the share of the matrix rate that was
measured in the same run: 4N FLOP a token for N weights, since frozen weights take part in the forward pass and in the
gradient of the activations, and recomputation is not useful work. Rows are either all of 2,048 tokens or as long as
dialogues of the competition with their prompt.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, PreTrainedConfig

from benchmarks.random_models import SHAPES, random_model
from stages.common.attention import PACKED, use_attention
from stages.common.fused import fuse, refresh
from stages.common.lora import use_lora_linear
from stages.common.loss import token_losses
from stages.common.memory import trainable
from stages.common.packing import IGNORED, TrainingRow, pack, split

WARM_UP, STEPS = 2, 5


@dataclass(frozen=True)
class Arm:
    """One way to train."""

    name: str
    ours: bool
    nf4: bool
    checkpointed: float
    """Share of the layers whose activations are computed again."""
    tokens: int
    """Tokens of a micro-batch at most; 0: one row."""


ARMS = [
    Arm("usual: PEFT, 4-bit, checkpointing, one row at a time", ours=False, nf4=True, checkpointed=1, tokens=0),
    Arm("usual: PEFT, 4-bit, checkpointing, padded batches", ours=False, nf4=True, checkpointed=1, tokens=16384),
    Arm("ours: 4-bit, checkpointing", ours=True, nf4=True, checkpointed=1, tokens=8192),
    Arm("ours: 4-bit", ours=True, nf4=True, checkpointed=0, tokens=8192),
    Arm("ours: base dequantised once, small batches", ours=True, nf4=False, checkpointed=0, tokens=4096),
    Arm("ours: base dequantised once", ours=True, nf4=False, checkpointed=0, tokens=8192),
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
    model = random_model(config, nf4=arm.nf4)
    lora = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", task_type="CAUSAL_LM")
    adapted = get_peft_model(model, use_lora_linear(lora) if arm.ours else lora)
    for parameter in trainable(adapted):
        parameter.data = parameter.data.float()
    if arm.ours:
        use_attention(model, PACKED)
        fuse(model)
        for layer in model.model.layers[: round(arm.checkpointed * config.num_hidden_layers)]:
            layer.gradient_checkpointing = True
    elif arm.checkpointed:
        model.gradient_checkpointing_enable({"use_reentrant": False})
        model.enable_input_require_grads()
    adapted.train()
    return adapted


def micro_batches(arm: Arm, rows: list[TrainingRow]) -> Iterator[list[TrainingRow]]:
    if not arm.tokens:
        yield from ([row] for row in rows)
    elif arm.ours:
        for batch in split([len(row) for row in rows], arm.tokens):
            yield [rows[row] for row in batch]
    else:
        size = max(1, arm.tokens // max(map(len, rows)))
        for start in range(0, len(rows), size):
            yield rows[start : start + size]


def our_loss(model: PeftModel, rows: list[TrainingRow]) -> torch.Tensor:
    packed = pack(rows, "cuda")
    base = model.get_base_model()
    hidden = base.base_model(**packed.inputs, use_cache=False).last_hidden_state[0, packed.positions]
    return token_losses(hidden, packed.targets, base.get_output_embeddings().weight).sum()


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


def measure(arm: Arm, config: PreTrainedConfig, steps: list[list[TrainingRow]], rate: float) -> dict[str, object]:
    """Train on the rows of each step in turn; the first ones warm up and compile."""
    gc.collect()
    torch.cuda.empty_cache()
    model = build(config, arm)
    weights = count_weights(config)
    optimizer = torch.optim.AdamW(trainable(model), lr=1e-4, fused=True)
    loss_of: Callable[[PeftModel, list[TrainingRow]], torch.Tensor] = our_loss if arm.ours else usual_loss
    times: list[float] = []
    torch.cuda.reset_peak_memory_stats()
    for rows in steps:
        labelled = sum(len(row.completion_ids) for row in rows)
        torch.cuda.synchronize()
        began = time.perf_counter()
        if arm.ours:
            refresh(model.get_base_model())
        for batch in micro_batches(arm, rows):
            loss = loss_of(model, batch) / labelled
            torch.autograd.backward([loss])
        optimizer.step()
        optimizer.zero_grad()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - began)
    tokens = [sum(map(len, rows)) for rows in steps]
    speed = statistics.median(n / t for n, t in zip(tokens[WARM_UP:], times[WARM_UP:], strict=True))
    return {
        **asdict(arm),
        "tokens_per_second": round(speed),
        "peak_gib": round(torch.cuda.max_memory_allocated() / 2**30, 1),
        "share": round(speed * 4 * weights / rate, 3),
        "first_step_seconds": round(times[0], 1),
    }


def count_weights(config: PreTrainedConfig) -> int:
    with torch.device("meta"):
        return sum(weight.numel() for weight in AutoModelForCausalLM.from_config(config).parameters())


def matrix_rate() -> float:
    """FLOP a second of an 8192-cubed product of random bfloat16 matrices."""
    a, b = (torch.randn(8192, 8192, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    for _ in range(3):
        a @ b
    torch.cuda.synchronize()
    began = time.perf_counter()
    for _ in range(20):
        a @ b
    torch.cuda.synchronize()
    return 20 * 2 * 8192**3 / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--shape", choices=SHAPES, default="solar-10b")
    parser.add_argument("--rows", choices=("fixed", "dialogues"), default="fixed")
    parser.add_argument("--arms", type=int, nargs="*", default=range(len(ARMS)), help="which arms, counted from 0")
    parser.add_argument("--output", type=Path, help="a file for the results, JSON lines")
    options = parser.parse_args()
    config = SHAPES[options.shape]
    rng = random.Random(0)
    words = config.vocab_size
    steps = [
        fixed_rows(2048, 8, words, rng) if options.rows == "fixed" else dialogue_rows(16, words, rng)
        for _ in range(WARM_UP + STEPS)
    ]
    rate = matrix_rate()
    print(f"{options.shape}, {options.rows} rows; matrix rate {rate / 1e12:.0f} TFLOP/s", flush=True)
    for index in options.arms:
        try:
            result = measure(ARMS[index], config, steps, rate)
        except torch.cuda.OutOfMemoryError:
            result = {**asdict(ARMS[index]), "tokens_per_second": None}
        print(json.dumps(result), flush=True)
        if options.output:
            with options.output.open("a") as file:
                file.write(json.dumps({"shape": options.shape, "rows": options.rows, **result}) + "\n")


if __name__ == "__main__":
    main()
