"""Element-wise parts of a decoder layer as Triton kernels, one pass over memory each.

They are needed where a compiler does badly: results that go into a part of a wider row. Rows of every tensor may lie
any distance apart; columns are contiguous. Imported on machines with a GPU only, as Triton comes with PyTorch's CUDA
builds. Each has its counterpart in plain PyTorch in `stages.layers.elementwise_torch`, which says what it computes.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from stages.layers.elementwise_torch import FP8, FP8_MAX, LEAST

BLOCK = 1024
ROW_BLOCK = 4096


@triton.jit  # type: ignore[untyped-decorator]
def _rms_norm(x, weight, out, x_row, out_row, width, epsilon, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    values = tl.load(x + row * x_row + columns, mask=inside, other=0.0).to(tl.float32)
    inverse = tl.rsqrt(tl.sum(values * values) / width + epsilon)
    unit = (values * inverse).to(out.dtype.element_ty)
    tl.store(out + row * out_row + columns, unit * tl.load(weight + columns, mask=inside, other=0.0), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _rms_norm_backward(  # type: ignore[no-untyped-def]
    x, weight, dy, residual, dx, x_row, dy_row, residual_row, dx_row, width, epsilon, block: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    values = tl.load(x + row * x_row + columns, mask=inside, other=0.0).to(tl.float32)
    scaled = tl.load(dy + row * dy_row + columns, mask=inside, other=0.0).to(tl.float32)
    scaled *= tl.load(weight + columns, mask=inside, other=0.0).to(tl.float32)
    inverse = tl.rsqrt(tl.sum(values * values) / width + epsilon)
    unit = values * inverse
    gradient = inverse * (scaled - unit * (tl.sum(scaled * unit) / width))
    gradient += tl.load(residual + row * residual_row + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(dx + row * dx_row + columns, gradient.to(dx.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _gated(gate_up, out, gate_up_row, out_row, width, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    gate = tl.load(gate_up + row * gate_up_row + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * gate_up_row + width + columns, mask=inside, other=0.0)
    active = (gate * tl.sigmoid(gate)).to(up.dtype)
    tl.store(out + row * out_row + columns, active * up, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _gated_backward(  # type: ignore[no-untyped-def]
    gate_up, dh, out, d_gate_up, gate_up_row, dh_row, out_row, d_gate_up_row, width, block: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    gate = tl.load(gate_up + row * gate_up_row + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * gate_up_row + width + columns, mask=inside, other=0.0)
    gradient = tl.load(dh + row * dh_row + columns, mask=inside, other=0.0).to(tl.float32)
    sigmoid = tl.sigmoid(gate)
    active = gate * sigmoid
    d_gate = gradient * up.to(tl.float32) * (sigmoid + active * (1 - sigmoid))
    tl.store(out + row * out_row + columns, active.to(up.dtype) * up, mask=inside)
    start = d_gate_up + row * d_gate_up_row + columns
    tl.store(start, d_gate.to(up.dtype), mask=inside)
    tl.store(start + width, (gradient * active).to(up.dtype), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _rotate(  # type: ignore[no-untyped-def]
    x,
    cos,
    sin,
    out,
    x_row,
    x_head,
    cos_row,
    sin_row,
    out_row,
    direction,
    heads,
    half,
    head_block: tl.constexpr,
    block: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    head = tl.program_id(1) * head_block + tl.arange(0, head_block)[:, None]
    inside = columns < half
    both = inside[None, :] & (head < heads)
    start = x + row * x_row + head * x_head + columns[None, :]
    first = tl.load(start, mask=both, other=0.0).to(tl.float32)
    second = tl.load(start + half, mask=both, other=0.0).to(tl.float32)
    c = tl.load(cos + row * cos_row + columns, mask=inside, other=0.0).to(tl.float32)[None, :]
    s = tl.load(sin + row * sin_row + columns, mask=inside, other=0.0).to(tl.float32)[None, :] * direction
    start = out + row * out_row + head * (2 * half) + columns[None, :]
    tl.store(start, (first * c - second * s).to(out.dtype.element_ty), mask=both)
    tl.store(start + half, (second * c + first * s).to(out.dtype.element_ty), mask=both)


@triton.jit  # type: ignore[untyped-decorator]
def _copy(x, out, x_row, out_row, width, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    tl.store(out + row * out_row + columns, tl.load(x + row * x_row + columns, mask=inside), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _to_fp8(x, out, scales, x_row, width, largest_fp8, least, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    largest = tl.zeros((block,), dtype=tl.float32)
    for start in range(0, width, block):
        inside = columns + start < width
        values = tl.load(x + row * x_row + start + columns, mask=inside, other=0.0).to(tl.float32)
        largest = tl.maximum(largest, tl.abs(values))
    scale = tl.maximum(tl.max(largest), least) / largest_fp8
    tl.store(scales + row, scale)
    for start in range(0, width, block):
        inside = columns + start < width
        values = tl.load(x + row * x_row + start + columns, mask=inside, other=0.0).to(tl.float32)
        tl.store(out + row * width + start + columns, (values / scale).to(out.dtype.element_ty), mask=inside)


def rms_norm(x: Tensor, weight: Tensor, epsilon: float, out: Tensor) -> None:
    """The norm of each row of `x`, into `out`."""
    rows, width = x.shape
    launch = _rms_norm[(rows,)]
    launch(x, weight, out, x.stride(0), out.stride(0), width, epsilon, block=triton.next_power_of_2(width), num_warps=8)


def rms_norm_backward(x: Tensor, weight: Tensor, epsilon: float, dy: Tensor, residual: Tensor) -> Tensor:
    """The gradient of x: that of the norm plus `residual`, what reaches x beside it."""
    rows, width = x.shape
    dx = torch.empty_like(x)
    strides = (x.stride(0), dy.stride(0), residual.stride(0), dx.stride(0))
    launch = _rms_norm_backward[(rows,)]
    block = triton.next_power_of_2(width)
    launch(x, weight, dy, residual, dx, *strides, width, epsilon, block=block, num_warps=8)
    return dx


def gated(gate_up: Tensor, out: Tensor) -> None:
    """SiLU of the first half of the columns, times the second half, into `out`."""
    rows, width = out.shape
    _gated[(rows, triton.cdiv(width, BLOCK))](gate_up, out, gate_up.stride(0), out.stride(0), width, block=BLOCK)


def gated_backward(gate_up: Tensor, dh: Tensor, out: Tensor, d_gate_up: Tensor) -> None:
    """`gated` again, into `out`, and the gradient of its input, into `d_gate_up`."""
    rows, width = dh.shape
    strides = (gate_up.stride(0), dh.stride(0), out.stride(0), d_gate_up.stride(0))
    _gated_backward[(rows, triton.cdiv(width, BLOCK))](gate_up, dh, out, d_gate_up, *strides, width, block=BLOCK)


def rotate(x: Tensor, cos: Tensor, sin: Tensor, out: Tensor, *, back: bool = False) -> None:
    """Rotate the heads of `x` (T x heads x size) by their position, or back, into `out` (T x heads * size).

    `out` may be the memory of `x`.
    """
    rows, heads, size = x.shape
    strides: tuple[Any, ...] = (*x.stride()[:2], cos.stride(0), sin.stride(0), out.stride(0))
    blocks = {"head_block": min(16, triton.next_power_of_2(heads)), "block": triton.next_power_of_2(size // 2)}
    grid = (rows, triton.cdiv(heads, blocks["head_block"]))
    _rotate[grid](x, cos, sin, out, *strides, -1.0 if back else 1.0, heads, size // 2, **blocks)


def copy(x: Tensor, out: Tensor) -> None:
    """`x` into `out`."""
    rows, width = x.shape
    _copy[(rows, triton.cdiv(width, BLOCK))](x, out, x.stride(0), out.stride(0), width, block=BLOCK)


def to_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each row of `x` in 8-bit floats (e4m3), its largest value the largest there is, and the rows' scales, T x 1."""
    rows, width = x.shape
    out = torch.empty(rows, width, dtype=FP8, device=x.device)
    scales = torch.empty(rows, 1, dtype=torch.float32, device=x.device)
    block = min(ROW_BLOCK, triton.next_power_of_2(width))
    _to_fp8[(rows,)](x, out, scales, x.stride(0), width, FP8_MAX, LEAST, block=block, num_warps=8)
    return out, scales
