from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import LlamaConfig

from stages.engines.batches import CPU_SLOTS, WAITING, Limits, limits_for

SOLAR = LlamaConfig(num_hidden_layers=48, num_attention_heads=32, num_key_value_heads=8, hidden_size=4096)


def model(device: str, gib: float) -> Any:
    return SimpleNamespace(
        config=SOLAR,
        device=torch.device(device),
        dtype=torch.bfloat16,
        get_memory_footprint=lambda: int(gib * 2**30),
    )


@pytest.mark.parametrize(
    ("total", "weights", "tokens"),
    [(80, 20, 178_403), (24, 6, 45_875), (16, 6, 19_660), (8, 6, 2048)],
)
def test_a_gpu_holds_as_many_tokens_as_its_memory_beside_the_weights(
    total: int, weights: int, tokens: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """192 KiB a token of SOLAR, and half as much again for rows that are copied."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, total * 2**30))
    assert limits_for(model("cuda", weights), 64, "auto") == Limits(64, tokens, WAITING)


def test_a_cpu_and_a_number_of_ones_own() -> None:
    assert limits_for(model("cpu", 20), 64, "auto") == Limits(64, CPU_SLOTS)
    assert limits_for(model("cuda", 20), 64, 5000) == Limits(64, 5000, WAITING)


def test_the_logits_of_many_samples_leave_room_for_fewer_dialogues(monkeypatch: pytest.MonkeyPatch) -> None:
    """32,000 logits of ten bytes for each of 1,000 samples: ten dialogues in 3 GiB."""
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (0, 80 * 2**30))
    assert limits_for(model("cuda", 20), 64, "auto", samples=100) == Limits(64, 178_403, WAITING)
    assert limits_for(model("cuda", 20), 64, "auto", samples=1000) == Limits(10, 178_403, WAITING)
    assert limits_for(model("cuda", 20), 64, 5000, samples=20_000) == Limits(1, 5000, WAITING)
    assert limits_for(model("cpu", 20), 64, "auto", samples=1000) == Limits(64, CPU_SLOTS)
