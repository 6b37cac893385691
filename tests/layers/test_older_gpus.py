"""What a GPU before NVIDIA's Ampere, such as a T4, gets in place of what it has not: on the CPU, and on a GPU."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch

from stages import train
from stages.core import paths
from stages.layers import elementwise, elementwise_torch, packed_attention
from stages.layers.packed_attention import Rows, attend
from tests.tiny_project import configure

SPANS = torch.tensor([0, 5, 12], dtype=torch.int32)
ROWS = Rows(SPANS, SPANS, 7, 7)


@pytest.fixture
def tensor() -> Any:
    """A tensor of a GPU, as far as is asked here."""
    elementwise.has_triton.cache_clear()
    return SimpleNamespace(is_cuda=True, device=torch.device("cuda", 0), dtype=torch.float16, shape=(5, 2, 8))


def test_element_wise_parts_are_plain_pytorch(t4: None, tensor: Any) -> None:
    assert elementwise.functions_for(cast(torch.Tensor, tensor)) is elementwise_torch
    elementwise.has_triton.cache_clear()


def test_flash_attention_is_not_asked_for(t4: None, tensor: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = packed_attention._attend_row
    lengths = []

    def watch(query: torch.Tensor, *others: Any) -> torch.Tensor:
        lengths.append(len(query))
        return plain(query, *others)

    monkeypatch.setattr(packed_attention, "_attend_row", watch)

    class OnT4(torch.Tensor):
        """A tensor that says that it is on a GPU."""

        is_cuda = property(lambda self: True)

    query = torch.zeros(12, 2, 8, dtype=torch.float16).as_subclass(OnT4)
    attend(query, query, query, ROWS)
    assert lengths == [5, 7]


def test_scores_stay_within_float16() -> None:
    """A query and a key of 120 have a product of 115,200, above 65,504, and end in a score of 40,729."""
    states = [torch.full((12, heads, 8), 120.0) for heads in (4, 2)]
    value = torch.randn(12, 2, 8, generator=torch.Generator().manual_seed(0))
    exact = attend(states[0], states[1], value, ROWS)
    found = attend(states[0].half(), states[1].half(), value.half(), ROWS)
    torch.testing.assert_close(found.float(), exact, atol=2e-3, rtol=2e-3)


def test_packed_rows_in_float16_are_near_those_in_float32() -> None:
    generator = torch.Generator().manual_seed(1)
    states = [torch.randn(12, heads, 8, generator=generator) for heads in (4, 2, 2)]
    exact = attend(states[0], states[1], states[2], ROWS)
    query, key, value = (each.half() for each in states)
    torch.testing.assert_close(attend(query, key, value, ROWS).float(), exact, atol=4e-3, rtol=4e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_newer_gpu_trains_alike_by_the_paths_of_an_older_one(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float16, with plain PyTorch for what Triton and flash attention do: within 2% of its own loss at each step."""
    configure(train={"epochs": 2, "preview_samples": 0})

    def losses() -> list[float]:
        elementwise.has_triton.cache_clear()
        train.main()
        table = (paths.TRAINING_LOG / "plots/metrics/train/loss.tsv").read_text(encoding="utf-8").splitlines()
        return [float(line.split("\t")[-1]) for line in table[1:]]

    own = losses()
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device=None: (7, 5))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: False)
    older = losses()
    elementwise.has_triton.cache_clear()
    assert len(older) == len(own) == 8
    assert older == pytest.approx(own, rel=0.02)
    assert older != own
    assert older[-1] < older[0]
