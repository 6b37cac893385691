"""Chooses the element-wise parts of a decoder layer: plain PyTorch on a CPU, Triton kernels on a GPU."""

from __future__ import annotations

from types import ModuleType

from torch import Tensor

from stages.layers import elementwise_torch


def functions_for(x: Tensor) -> ModuleType:
    """The module with these functions for tensors where `x` is."""
    if not x.is_cuda:
        return elementwise_torch
    from stages.layers import elementwise_triton  # needs Triton, which CPU builds of PyTorch lack

    return elementwise_triton
