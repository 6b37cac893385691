"""Chooses the element-wise parts of a decoder layer: Triton kernels on a GPU that has it, plain PyTorch elsewhere."""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
from torch import Tensor

from stages.layers import elementwise_torch


def functions_for(x: Tensor) -> ModuleType:
    """The module with these functions for tensors where `x` is."""
    if not x.is_cuda or not has_triton(x.device):
        return elementwise_torch
    from stages.layers import elementwise_triton  # needs Triton, which CPU builds of PyTorch lack

    return elementwise_triton


@cache
def has_triton(device: torch.device) -> bool:
    """Whether Triton compiles for a GPU: from 3.3 on it does so for none before NVIDIA's Ampere, such as a T4."""
    return torch.cuda.get_device_capability(device) >= (8, 0)
