from __future__ import annotations

import math
from typing import Any, cast

import pytest
import torch
from transformers import PreTrainedModel

from stages.core.errors import UserError
from stages.training import memory_plan as memory
from stages.training.memory_plan import GIB, MemoryPlan, dequantize_base, make_plan, step_down


class Base:
    """As much of a model as a plan looks at."""

    def __init__(self, weights: int = 10_700_000_000, layers: int = 48) -> None:
        self.base_model = self
        self.layers = [torch.nn.Identity() for _ in range(layers)]
        self.weights = weights

    def num_parameters(self) -> int:
        return self.weights

    def parameters(self) -> list[torch.nn.Parameter]:
        return [torch.nn.Parameter(torch.empty(1_000_000, device="meta"))]

    def gradient_checkpointing_enable(self, settings: dict[str, bool]) -> None:
        pass


def plan(monkeypatch: pytest.MonkeyPatch, gib: float, *, used: float = 6, **settings: Any) -> MemoryPlan:
    """A plan where a token takes 4.5 MiB, or 0.5 MiB where all layers are recomputed."""
    base = Base()
    peak = 0.0

    def probe(tokens: int) -> None:
        nonlocal peak
        kept = sum(not getattr(layer, "gradient_checkpointing", False) for layer in base.layers) / 48
        peak = used * GIB + 1e9 + tokens * (0.5 + 4 * kept) * 2**20

    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda: used * GIB)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda: peak)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda: None)
    values: dict[str, Any] = {
        "micro_batch_tokens": "auto",
        "recomputed_layers": "auto",
        "steps": [[1000] * 8],
        "longest": 1500,
    }
    return make_plan(cast(PreTrainedModel, base), probe, memory=gib * GIB, **values | settings)


def test_all_of_a_step_is_kept_where_it_fits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(monkeypatch, 70) == MemoryPlan(8000, 0)


def test_with_less_memory_a_step_costs_more(monkeypatch: pytest.MonkeyPatch) -> None:
    plans = [plan(monkeypatch, gib) for gib in (70, 36, 22, 12, 8)]
    costs = [memory.seconds(each, 48, 10_700_000_000, [[1000] * 8]) for each in plans]
    assert costs == sorted(costs)
    assert plans[0].recomputed_layers == 0
    assert plans[-1].recomputed_layers == 48
    for each, gib in zip(plans, (70, 36, 22, 12, 8), strict=True):
        recomputed = each.recomputed_layers / 48
        assert each.micro_batch_tokens * (4.5 - 4 * recomputed) * 2**20 <= (gib - 6) * GIB
        assert each.micro_batch_tokens >= 1500


def test_more_layers_are_recomputed_where_rows_then_share_a_micro_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    # Kept whole, the rows of 1,000 tokens would go one by one, and each would take as long as several do.
    found = plan(monkeypatch, 14)
    assert found.micro_batch_tokens >= 3000 and found.recomputed_layers > 24


def test_fixed_settings_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan(monkeypatch, 70, micro_batch_tokens=4096, recomputed_layers=7) == MemoryPlan(4096, 7)
    assert plan(monkeypatch, 70, micro_batch_tokens=4096, recomputed_layers="all") == MemoryPlan(4096, 48)
    assert plan(monkeypatch, 12, micro_batch_tokens=4096).micro_batch_tokens == 4096
    assert plan(monkeypatch, 36, recomputed_layers=48) == MemoryPlan(8000, 48)


def test_a_plan_is_one_line() -> None:
    assert MemoryPlan(8192, 12).describe(48, dequantized=True) == (
        "Memory: base dequantized once, 12 of 48 layers recomputed, micro-batches of up to 8192 tokens"
    )


def test_a_row_that_cannot_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError) as error:
        plan(monkeypatch, 6.5)
    assert str(error.value) == (
        "train.memory: a row of 1500 tokens needs 0.7 GiB beside the model's 6.0, and there are 0.5; lower "
        "prompt.max_tokens or lora.r"
    )


def test_a_cpu_keeps_what_a_small_model_takes() -> None:
    def never(tokens: int) -> None:
        raise AssertionError

    def on_cpu(weights: int, tokens: int | str = "auto", layers: int | str = "auto") -> MemoryPlan:
        return make_plan(
            cast(PreTrainedModel, Base(weights)),
            never,
            micro_batch_tokens=tokens,
            recomputed_layers=layers,
            memory=math.inf,
            steps=[[400, 300, 200]],
            longest=400,
        )

    assert on_cpu(268_000_000) == MemoryPlan(memory.CPU_MICRO_BATCH_TOKENS, 0)
    assert on_cpu(8_000_000_000) == MemoryPlan(memory.CPU_MICRO_BATCH_TOKENS, 48)
    assert on_cpu(268_000_000, 512, "all") == MemoryPlan(512, 48)


def test_the_base_is_dequantized_where_that_leaves_half_of_the_memory() -> None:
    solar = 10_700_000_000
    assert [dequantize_base("auto", solar, gib * GIB) for gib in (24, 36, 44, 80)] == [False, False, True, True]
    assert [dequantize_base("auto", weights, math.inf) for weights in (268_000_000, solar)] == [True, False]
    assert [dequantize_base(setting, solar, 24 * GIB) for setting in ("always", "never")] == [True, False]


def test_after_memory_ran_out() -> None:
    assert step_down(MemoryPlan(8000, 0), 48, 1500) == MemoryPlan(4000, 48)
    assert step_down(MemoryPlan(2000, 3), 48, 1500) == MemoryPlan(1500, 48)
