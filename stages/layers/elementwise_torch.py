"""The element-wise parts of a decoder layer in plain PyTorch: for CPUs, and to check the kernels of a GPU against."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from stages.layers.layer_spec import Heads

FP8 = torch.float8_e4m3fn
FP8_MAX = torch.finfo(FP8).max
LEAST = 1e-12
"""Stands for the largest value of a row of zeros."""


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, out: Tensor) -> None:
    """The norm of each row of `x`, into `out`: taken in float32, scaled in the dtype of `weight`, as transformers does.

    Llama's weights have the dtype of `x`; those of Gemma are float32.
    """
    unit, _ = _unit(x, epsilon)
    torch.mul(unit.to(weight.dtype), weight, out=out)


def rms_norm_add(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor) -> Tensor:
    """The norm of each row of `x`, plus `residual`."""
    unit, _ = _unit(x, epsilon)
    return unit.mul_(weight).add_(residual).to(x.dtype)


def rms_norm_backward(
    x: Tensor, weight: Tensor, epsilon: float, dy: Tensor, residual: Tensor | None, out: Tensor
) -> None:
    """The gradient of x, into `out`: that of the norm plus `residual`, what reaches x beside it."""
    unit, inverse = _unit(x, epsilon)
    scaled = dy.float() * weight
    gradient = scaled.addcmul_(unit, (scaled * unit).mean(-1, keepdim=True), value=-1).mul_(inverse)
    out.copy_(gradient if residual is None else gradient.add_(residual))


def _unit(x: Tensor, epsilon: float) -> tuple[Tensor, Tensor]:
    """Rows of unit size, and what they were multiplied by for it, in float32."""
    full = x.float()
    inverse = torch.rsqrt(full.square().mean(-1, keepdim=True) + epsilon)
    return full * inverse, inverse


def gated(gate_up: Tensor, activation: str, out: Tensor) -> None:
    """The activation of the first half of the columns, times the second half, into `out`.

    Args:
        activation: as transformers calls it, `silu` or `gelu_pytorch_tanh`.
    """
    gate, up = gate_up.chunk(2, dim=-1)
    torch.mul(_activate(gate, activation), up, out=out)


def gated_backward(gate_up: Tensor, activation: str, dh: Tensor, out: Tensor, d_gate_up: Tensor) -> None:
    """`gated` again, into `out`, and the gradient of its input, into `d_gate_up`."""
    gate, up = gate_up.chunk(2, dim=-1)
    d_gate, d_up = d_gate_up.chunk(2, dim=-1)
    active = _activate(gate, activation)
    torch.mul(active, up, out=out)
    torch.mul(dh, active, out=d_up)
    if activation == "silu":
        d_gate.copy_(torch.ops.aten.silu_backward(dh * up, gate))
    else:
        d_gate.copy_(torch.ops.aten.gelu_backward(dh * up, gate, approximate="tanh"))


def _activate(gate: Tensor, activation: str) -> Tensor:
    return silu(gate) if activation == "silu" else gelu(gate, approximate="tanh")


def heads(qkv: Tensor, kind: Heads, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Query, key and value side by side, normed as `kind` says, the first two rotated, into `out`.

    Args:
        qkv: what the projections give, T x the sum of `kind.given`.
        cos: of the positions, T x head size, the second half of the columns like the first; likewise `sin`.
        out: T x the sum of `kind.made`.
    """
    for part, (x, made) in enumerate(zip(_apart(qkv, kind), out.split(kind.made, dim=-1), strict=True)):
        if part < kind.normed and kind.weights is not None:
            normed = torch.empty_like(x)
            rms_norm(x, kind.weights[part], kind.epsilon, normed)
            x = normed
        made.unflatten(-1, x.shape[1:]).copy_(_rotate(x, cos, sin) if part < 2 else x)


def heads_backward(
    outer: Sequence[Tensor], qkv: Tensor | None, kind: Heads, cos: Tensor, sin: Tensor, out: Tensor
) -> None:
    """The gradients of query, key and value before norm and rotation, side by side, into `out`.

    Args:
        outer: those of the results, T x heads x size each.
        qkv: as in `heads`; not asked for where nothing is normed.
        out: T x the sum of `kind.made`, also where values are keys: theirs are to be added to the keys'.
    """
    given = outer if qkv is None else _apart(qkv, kind)
    for part, (dy, x, made) in enumerate(zip(outer, given, out.split(kind.made, dim=-1), strict=True)):
        turned = _rotate(dy, cos, -sin) if part < 2 else dy
        apart = made.unflatten(-1, dy.shape[1:])
        if part < kind.normed and kind.weights is not None:
            rms_norm_backward(x, kind.weights[part], kind.epsilon, turned, None, apart)
        else:
            apart.copy_(turned)


def _apart(qkv: Tensor, kind: Heads) -> list[Tensor]:
    parts = [part.unflatten(-1, (-1, kind.size)) for part in qkv.split(kind.given, dim=-1)]
    return [*parts, parts[1]] if kind.keys_are_values else parts


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    first, second = x.chunk(2, dim=-1)
    half = torch.cat((-second, first), dim=-1)
    return x * cos[:, None] + half * sin[:, None]


def copy(x: Tensor, out: Tensor) -> None:
    """`x` into `out`."""
    out.copy_(x)


def to_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each row of `x` in 8-bit floats (e4m3), its largest value the largest there is, and the rows' scales, T x 1."""
    full = x.float()
    scale = full.abs().amax(-1, keepdim=True).clamp(min=LEAST) / FP8_MAX
    return (full / scale).to(FP8), scale
