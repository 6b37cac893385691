from __future__ import annotations

import time

import pytest
import torch

from stages.common import matrix_rate as module
from stages.common.matrix_rate import matrix_rate


@pytest.mark.parametrize(
    ("clock", "rate"),
    [
        # Ten products in all the time that there is, the last of which ends later.
        ([5.0, *(5 + n / 40 for n in range(10)), 5.25, 5.32], 10 * 2000 / 0.32),
        # As many as it makes at most.
        ([5.0, *[5.0] * 20, 5.125], 20 * 2000 / 0.125),
    ],
)
def test_the_rate_counts_what_was_multiplied_and_added(
    clock: list[float], rate: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(module.SIZES, "cpu", 10)
    monkeypatch.setattr(time, "perf_counter", iter(clock).__next__)
    assert matrix_rate("cpu", torch.float32) == pytest.approx(rate)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32])
def test_the_random_state_stays_as_it_was(dtype: torch.dtype, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(module.SIZES, "cpu", 64)
    before = torch.get_rng_state()
    assert 1e6 < matrix_rate("cpu", dtype) < 1e15
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_gpu_is_left_as_it_was() -> None:
    torch.ones(8, 8, device="cuda") @ torch.ones(8, 8, device="cuda")  # what the library keeps for itself
    before, state = torch.cuda.memory_allocated(), torch.cuda.get_rng_state()
    assert 1e12 < matrix_rate("cuda", torch.float16) < 1e16
    assert torch.cuda.memory_allocated() == torch.cuda.max_memory_allocated() == before
    assert torch.equal(torch.cuda.get_rng_state(), state)
