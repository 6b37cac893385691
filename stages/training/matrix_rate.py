"""How fast a device multiplies matrices: what the speed of a training is held against."""

from __future__ import annotations

import time
from functools import cache

import torch

SIZES = {"cuda": 8192, "cpu": 2048}
"""Rows and columns of the matrices: large enough that a larger product is no faster."""
SMALL = 256
"""Rows and columns where a CPU takes so long that a large product would take minutes."""
WARM_UP, PRODUCTS = 3, 20
TOO_SLOW = 1 / 32
"""Seconds of a product of these after which a CPU is given no larger ones."""
SECONDS = 0.25
"""After these a CPU begins no further product; a GPU is given all of them long before."""


def matrix_rate(device: str, dtype: torch.dtype) -> float:
    """FLOP a second of the product of two square random matrices, two for each number that is multiplied and added.

    It is measured once in a process. The random state stays as it was, and neither memory nor a peak of it is left
    behind. Call it before anything whose peak is to be measured.

    Args:
        device: cuda or cpu.
        dtype: of the matrices and their product.
    """
    rate = _measure(device, dtype)
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    return rate


@cache
def _measure(device: str, dtype: torch.dtype) -> float:
    size = SIZES[device]
    generator = torch.Generator(device).manual_seed(0)
    a, b = (torch.randn(size, size, device=device, dtype=dtype, generator=generator) for _ in range(2))
    product = torch.empty_like(a)
    if device == "cpu":
        began = time.perf_counter()
        small = a[:SMALL, :SMALL] @ b[:SMALL, :SMALL]
        if time.perf_counter() - began > TOO_SLOW:
            size, a, b, product = SMALL, a[:SMALL, :SMALL], b[:SMALL, :SMALL], small
    for _ in range(WARM_UP if device == "cuda" else 1):
        torch.mm(a, b, out=product)
    _wait(device)
    count = 0
    began = time.perf_counter()
    while count < PRODUCTS and time.perf_counter() - began < SECONDS:
        torch.mm(a, b, out=product)
        count += 1
    _wait(device)
    return flop(count, size) / (time.perf_counter() - began)


def flop(products: int, size: int) -> int:
    """Multiplications and additions in so many products of square matrices.

    >>> flop(3, 10)
    6000
    """
    return products * 2 * size**3


def _wait(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()
