from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from stages.training import matrix_rate as module
from stages.training.matrix_rate import flop, matrix_rate


@pytest.mark.parametrize("products", [1, 10, 20])
def test_the_rate_counts_what_was_multiplied_and_added(products: int) -> None:
    assert flop(products, 10) == products * 2000


@pytest.fixture(autouse=True)
def not_measured_before() -> Iterator[None]:
    module._measure.cache_clear()
    yield
    module._measure.cache_clear()


def test_a_dtype_in_which_a_cpu_crawls_is_measured_on_small_matrices(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else the measurement alone would take minutes."""
    sizes: list[int] = []
    multiply = torch.mm

    def recorded(a: torch.Tensor, b: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
        sizes.append(len(a))
        return multiply(a, b, out=out)

    monkeypatch.setattr(torch, "mm", recorded)
    monkeypatch.setattr(module, "TOO_SLOW", 0.0)
    matrix_rate("cpu", torch.float32)
    assert set(sizes) == {module.SMALL}


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
