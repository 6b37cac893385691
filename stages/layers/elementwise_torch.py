"""The element-wise parts of a decoder layer in plain PyTorch: for CPUs, and to check the kernels of a GPU against."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import silu

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max
LEAST = 1e-12
"""Stands for the largest value of a row of zeros."""


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, out: Tensor) -> None:
    """The norm of each row of `x`, into `out`: taken in float32, scaled in the dtype of `x`, as transformers does."""
    full = x.float()
    unit = full * torch.rsqrt(full.square().mean(-1, keepdim=True) + epsilon)
    torch.mul(unit.to(x.dtype), weight, out=out)


def rms_norm_backward(x: Tensor, weight: Tensor, epsilon: float, dy: Tensor, residual: Tensor) -> Tensor:
    """The gradient of x: that of the norm plus `residual`, what reaches x beside it."""
    full = x.float()
    inverse = torch.rsqrt(full.square().mean(-1, keepdim=True) + epsilon)
    unit = full * inverse
    scaled = dy.float() * weight
    return (inverse * (scaled - unit * (scaled * unit).mean(-1, keepdim=True)) + residual).to(x.dtype)


def gated(gate_up: Tensor, out: Tensor) -> None:
    """SiLU of the first half of the columns, times the second half, into `out`."""
    gate, up = gate_up.chunk(2, dim=-1)
    torch.mul(silu(gate), up, out=out)


def gated_backward(gate_up: Tensor, dh: Tensor, out: Tensor, d_gate_up: Tensor) -> None:
    """`gated` again, into `out`, and the gradient of its input, into `d_gate_up`."""
    gated(gate_up, out)
    gate, up = gate_up.float().chunk(2, dim=-1)
    sigmoid = torch.sigmoid(gate)
    active = gate * sigmoid
    d_gate, d_up = d_gate_up.chunk(2, dim=-1)
    d_gate.copy_(dh * up * (sigmoid + active * (1 - sigmoid)))
    d_up.copy_(dh * active)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, *, back: bool = False) -> None:
    """Rotate the heads of `x` (T x heads x size) by their position, or back, into `out` (T x heads * size)."""
    first, second = x.chunk(2, dim=-1)
    half = torch.cat((-second, first), dim=-1)
    sin = -sin if back else sin
    out.unflatten(-1, x.shape[1:]).copy_(x * cos[:, None] + half * sin[:, None])


def copy(x: Tensor, out: Tensor) -> None:
    """`x` into `out`."""
    out.copy_(x)


def to_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each row of `x` in 8-bit floats (e4m3), its largest value the largest there is, and the rows' scales, T x 1."""
    full = x.float()
    scale = full.abs().amax(-1, keepdim=True).clamp(min=LEAST) / FP8_MAX
    return (full / scale).to(FP8), scale
