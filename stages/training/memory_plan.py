"""How a training uses its memory: which layers keep their activations, which recompute them, and how much is done
at once."""

from __future__ import annotations

import gc
import logging
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers import PreTrainedModel

from stages.core.errors import UserError
from stages.layers.packed_rows import split

logger = logging.getLogger(__name__)

GIB = 2**30
CPU_MICRO_BATCH_TOKENS = 2048
"""Tokens of a micro-batch on the CPU, whose speed hardly changes from a thousand on."""
LARGE = 1_000_000_000
"""Weights from which a CPU recomputes all layers, and no longer holds 4-bit weights dequantized."""
PROBE_TOKENS = (512, 1024)
SPARE = 0.92
"""Share of the memory that is planned with; fragments, and rows unlike those of the probe, take the rest."""
OPTIMIZER = 12
"""Bytes of a trained parameter that are taken after planning: its gradient and two moments in float32."""
RATE = 640e12
"""FLOP a second of products on a data-centre GPU, to weigh recomputed layers against more micro-batches."""
FIXED_OVERHEAD = 1.4e-11
"""Fixed overhead per micro-batch, in seconds for each weight: dequantizing, adapters, what is done element by
element."""
LAUNCH = 0.0073
"""Seconds that a layer's kernels take to be started, forward and backward: what a micro-batch of few tokens takes.

The three were fitted to micro-batches of 2,000 to 10,000 tokens of a SOLAR-10.7B on an H100."""


@dataclass(frozen=True)
class MemoryPlan:
    """What training does with its memory."""

    micro_batch_tokens: int
    """Tokens of a micro-batch at most, but for a single row that is longer."""
    recomputed_layers: int
    """Layers, from the first on, whose activations are recomputed in the backward pass."""

    def describe(self, layers: int, dequantized: bool) -> str:
        """One line for the log."""
        base = "base dequantized once" if dequantized else "base as it is stored"
        return (
            f"Memory: {base}, {self.recomputed_layers} of {layers} layers recomputed, "
            f"micro-batches of up to {self.micro_batch_tokens} tokens"
        )


def budget(setting: float | str) -> float:
    """The bytes of GPU memory that training may take, those already taken included; inf on the CPU.

    Args:
        setting: `train.memory`: auto, all that is free, or GiB.
    """
    if not torch.cuda.is_available():
        return math.inf
    free, _ = torch.cuda.mem_get_info()
    all_of_it = free + torch.cuda.memory_reserved()
    return SPARE * (all_of_it if isinstance(setting, str) else min(all_of_it, setting * GIB))


def dequantize_base(setting: str, weights: int, memory: float) -> bool:
    """Whether 4-bit weights are held in the compute dtype while training: the same numbers, sooner.

    Args:
        setting: `train.dequantize`: auto, always or never. Auto does so where it leaves most of the memory free, on
            a CPU for small models.
        weights: how many there are.
        memory: what `budget` gave.
    """
    if setting != "auto":
        return setting == "always"
    return weights <= LARGE if math.isinf(memory) else 2 * weights < memory / 2


def count_layers(model: PreTrainedModel) -> int:
    """How many decoder layers a model has."""
    layers: Any = model.base_model.layers
    return len(layers)


def set_recomputed(model: PreTrainedModel, count: int) -> None:
    """Have the first `count` decoder layers recompute their activations, and the others keep them."""
    layers: Any = model.base_model.layers
    if count:
        model.gradient_checkpointing_enable({"use_reentrant": False})
    for index, layer in enumerate(layers):
        layer.gradient_checkpointing = index < count


def make_plan(
    model: PreTrainedModel,
    probe: Callable[[int], None],
    *,
    micro_batch_tokens: int | str,
    recomputed_layers: int | str,
    memory: float,
    steps: Sequence[Sequence[int]],
    longest: int,
) -> MemoryPlan:
    """Settle what the settings leave to auto; on a GPU by measuring what a token takes.

    Args:
        model: ready to train.
        probe: runs forward and backward on a micro-batch of that many tokens.
        micro_batch_tokens: `train.max_tokens_per_batch`.
        recomputed_layers: `train.checkpointed_layers`.
        memory: what `budget` gave.
        steps: the lengths of the rows of some steps; micro-batches need not hold more than the longest step.
        longest: tokens of the longest row of all.

    Raises:
        UserError: not even the longest row fits.
    """
    layers = count_layers(model)
    fixed_count = _count(recomputed_layers, layers)
    if math.isinf(memory):
        count = (layers if model.num_parameters() > LARGE else 0) if fixed_count is None else fixed_count
        return MemoryPlan(CPU_MICRO_BATCH_TOKENS if isinstance(micro_batch_tokens, str) else micro_batch_tokens, count)
    if not isinstance(micro_batch_tokens, str) and fixed_count is not None:
        return MemoryPlan(micro_batch_tokens, fixed_count)

    kept, recomputed = (_bytes_per_token(model, probe, count) for count in (0, layers))
    later = OPTIMIZER * sum(parameter.numel() for parameter in trainable(model))
    free = memory - torch.cuda.memory_allocated() - later
    counts = range(layers + 1) if fixed_count is None else [fixed_count]
    most = max(longest, *map(sum, steps))
    needed = longest if isinstance(micro_batch_tokens, str) else max(longest, micro_batch_tokens)
    fitting = []
    for count in counts:
        tokens = int(free / (kept + (recomputed - kept) * count / layers))
        if tokens >= needed:
            tokens = min(tokens, most) if isinstance(micro_batch_tokens, str) else micro_batch_tokens
            fitting.append(MemoryPlan(tokens, count))
    if not fitting:
        raise UserError(
            f"train.memory: a row of {longest} tokens needs {needed * recomputed / GIB:.1f} GiB beside the model's "
            f"{torch.cuda.memory_allocated() / GIB:.1f}, and there are {free / GIB:.1f}; lower prompt.max_tokens or "
            "lora.r"
        )
    return min(fitting, key=lambda plan: seconds(plan, layers, model.num_parameters(), steps))


def seconds(plan: MemoryPlan, layers: int, weights: int, steps: Sequence[Sequence[int]]) -> float:
    """What steps cost under a plan, to compare plans by.

    Products take 4 FLOP for each weight and token. A recomputed layer takes 2 more, and as long as 3, since attention
    and all between its products are done again too. Each micro-batch has a fixed overhead besides.

    Args:
        plan: the plan.
        layers: of the model.
        weights: of the model.
        steps: the lengths of each step's rows.
    """
    recomputed = plan.recomputed_layers / layers
    total = 0.0
    for lengths in steps:
        for rows in split(lengths, plan.micro_batch_tokens):
            tokens = sum(lengths[row] for row in rows)
            busy = (4 + 3 * recomputed) * weights * tokens / RATE + FIXED_OVERHEAD * weights
            total += max(busy, LAUNCH * layers * (1 + recomputed / 2))
    return total


def step_down(plan: MemoryPlan, layers: int, longest: int) -> MemoryPlan:
    """The plan after memory ran out: half the tokens, and all layers recomputed."""
    return MemoryPlan(max(longest, plan.micro_batch_tokens // 2), layers)


def _count(setting: int | str, layers: int) -> int | None:
    if setting == "auto":
        return None
    return layers if setting == "all" else min(int(setting), layers)


def _bytes_per_token(model: PreTrainedModel, probe: Callable[[int], None], count: int) -> float:
    set_recomputed(model, count)
    peaks = []
    for tokens in PROBE_TOKENS:
        probe(tokens)  # once for what is allocated or compiled at the first time
        gc.collect()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        probe(tokens)
        peaks.append(torch.cuda.max_memory_allocated() - before)
    return max(1.0, (peaks[1] - peaks[0]) / (PROBE_TOKENS[1] - PROBE_TOKENS[0]))


def trainable(model: nn.Module) -> Sequence[nn.Parameter]:
    """The parameters that training changes."""
    return [parameter for parameter in model.parameters() if parameter.requires_grad]
