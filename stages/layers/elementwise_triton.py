"""Element-wise parts of a decoder layer as Triton kernels, one pass over memory each.

They are needed where a compiler does badly: results that go into a part of a wider row. Rows of every tensor may lie
any distance apart; columns are contiguous. Imported on machines with a GPU only, as Triton comes with PyTorch's CUDA
builds. Each has its counterpart in plain PyTorch in `stages.layers.elementwise_torch`, which says what it computes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
import triton
import triton.language as tl
from torch import Tensor

from stages.layers.elementwise_torch import FP8, FP8_MAX, LEAST
from stages.layers.layer_spec import Heads

BLOCK = 1024
ROW_BLOCK = 4096
FACTORS = {"silu": (1.0, 0.0), "gelu_pytorch_tanh": (2 * (2 / pi) ** 0.5, 2 * (2 / pi) ** 0.5 * 0.044715)}
"""An activation is x sigmoid(a x + b x^3), by a and b: (1 + tanh z) / 2 is sigmoid(2 z)."""


@triton.jit  # type: ignore[untyped-decorator]
def _rms_norm(  # type: ignore[no-untyped-def]
    x, weight, residual, out, x_row, residual_row, out_row, width, epsilon, adds: tl.constexpr, block: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)
    inside = columns < width
    values = tl.load(x + row * x_row + columns, mask=inside, other=0.0).to(tl.float32)
    inverse = tl.rsqrt(tl.sum(values * values) / width + epsilon)
    unit = (values * inverse).to(weight.dtype.element_ty)
    normed = unit * tl.load(weight + columns, mask=inside, other=0.0)
    if adds:
        normed += tl.load(residual + row * residual_row + columns, mask=inside, other=0.0)
    tl.store(out + row * out_row + columns, normed.to(out.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _rms_norm_backward(  # type: ignore[no-untyped-def]
    x,
    weight,
    dy,
    residual,
    dx,
    x_row,
    dy_row,
    residual_row,
    dx_row,
    width,
    epsilon,
    adds: tl.constexpr,
    block: tl.constexpr,
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
    if adds:
        gradient += tl.load(residual + row * residual_row + columns, mask=inside, other=0.0).to(tl.float32)
    tl.store(dx + row * dx_row + columns, gradient.to(dx.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _gated(gate_up, out, gate_up_row, out_row, width, slope, cubic, block: tl.constexpr):  # type: ignore[no-untyped-def]
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    gate = tl.load(gate_up + row * gate_up_row + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * gate_up_row + width + columns, mask=inside, other=0.0)
    active = (gate * tl.sigmoid(gate * (slope + cubic * gate * gate))).to(up.dtype)
    tl.store(out + row * out_row + columns, active * up, mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _gated_backward(  # type: ignore[no-untyped-def]
    gate_up, dh, out, d_gate_up, gate_up_row, dh_row, out_row, d_gate_up_row, width, slope, cubic, block: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.program_id(1) * block + tl.arange(0, block)
    inside = columns < width
    gate = tl.load(gate_up + row * gate_up_row + columns, mask=inside, other=0.0).to(tl.float32)
    up = tl.load(gate_up + row * gate_up_row + width + columns, mask=inside, other=0.0)
    gradient = tl.load(dh + row * dh_row + columns, mask=inside, other=0.0).to(tl.float32)
    bend = cubic * gate * gate
    sigmoid = tl.sigmoid(gate * (slope + bend))
    active = gate * sigmoid
    d_gate = gradient * up.to(tl.float32) * (sigmoid + active * (1 - sigmoid) * (slope + 3 * bend))
    tl.store(out + row * out_row + columns, active.to(up.dtype) * up, mask=inside)
    start = d_gate_up + row * d_gate_up_row + columns
    tl.store(start, d_gate.to(up.dtype), mask=inside)
    tl.store(start + width, (gradient * active).to(up.dtype), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _heads(  # type: ignore[no-untyped-def]
    qkv,
    weights,
    cos,
    sin,
    out,
    qkv_row,
    cos_row,
    sin_row,
    out_row,
    queries,
    keys,
    half,
    epsilon,
    normed: tl.constexpr,
    shared: tl.constexpr,
    head_block: tl.constexpr,
    block: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)[None, :]
    head = tl.program_id(1) * head_block + tl.arange(0, head_block)[:, None]
    inside = (columns < half) & (head < queries + 2 * keys)
    part = (head >= queries).to(tl.int32) + (head >= queries + keys).to(tl.int32)
    source = tl.where(part == 2, head - keys, head) if shared else head
    start = qkv + row * qkv_row + source * (2 * half) + columns
    first = tl.load(start, mask=inside, other=0.0).to(tl.float32)
    second = tl.load(start + half, mask=inside, other=0.0).to(tl.float32)
    if normed > 0:
        squares = tl.sum(first * first + second * second, axis=1)
        inverse = tl.rsqrt(squares / (2 * half) + epsilon)[:, None]
        kind = weights.dtype.element_ty
        start = weights + part * (2 * half) + columns
        first_normed = (first * inverse).to(kind) * tl.load(start, mask=inside, other=0.0)
        second_normed = (second * inverse).to(kind) * tl.load(start + half, mask=inside, other=0.0)
        first = tl.where(part < normed, first_normed.to(tl.float32), first)
        second = tl.where(part < normed, second_normed.to(tl.float32), second)
    turns = inside & (part < 2)
    c = tl.load(cos + row * cos_row + columns, mask=turns, other=1.0).to(tl.float32)
    s = tl.load(sin + row * sin_row + columns, mask=turns, other=0.0).to(tl.float32)
    start = out + row * out_row + head * (2 * half) + columns
    tl.store(start, (first * c - second * s).to(out.dtype.element_ty), mask=inside)
    tl.store(start + half, (second * c + first * s).to(out.dtype.element_ty), mask=inside)


@triton.jit  # type: ignore[untyped-decorator]
def _heads_backward(  # type: ignore[no-untyped-def]
    d_query,
    d_key,
    d_value,
    qkv,
    weights,
    cos,
    sin,
    out,
    query_row,
    query_head,
    key_row,
    key_head,
    value_row,
    value_head,
    qkv_row,
    cos_row,
    sin_row,
    out_row,
    queries,
    keys,
    half,
    epsilon,
    normed: tl.constexpr,
    shared: tl.constexpr,
    head_block: tl.constexpr,
    block: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    columns = tl.arange(0, block)[None, :]
    head = tl.program_id(1) * head_block + tl.arange(0, head_block)[:, None]
    inside = (columns < half) & (head < queries + 2 * keys)
    part = (head >= queries).to(tl.int32) + (head >= queries + keys).to(tl.int32)
    # Of the three, one is read for each head.
    start = d_query + row * query_row + head * query_head + columns
    first = tl.load(start, mask=inside & (part == 0), other=0.0).to(tl.float32)
    second = tl.load(start + half, mask=inside & (part == 0), other=0.0).to(tl.float32)
    start = d_key + row * key_row + (head - queries) * key_head + columns
    first += tl.load(start, mask=inside & (part == 1), other=0.0).to(tl.float32)
    second += tl.load(start + half, mask=inside & (part == 1), other=0.0).to(tl.float32)
    start = d_value + row * value_row + (head - queries - keys) * value_head + columns
    first += tl.load(start, mask=inside & (part == 2), other=0.0).to(tl.float32)
    second += tl.load(start + half, mask=inside & (part == 2), other=0.0).to(tl.float32)
    turns = inside & (part < 2)
    c = tl.load(cos + row * cos_row + columns, mask=turns, other=1.0).to(tl.float32)
    s = tl.load(sin + row * sin_row + columns, mask=turns, other=0.0).to(tl.float32)
    turned = first * c + second * s
    second = second * c - first * s
    first = turned
    if normed > 0:
        source = tl.where(part == 2, head - keys, head) if shared else head
        start = qkv + row * qkv_row + source * (2 * half) + columns
        first_x = tl.load(start, mask=inside, other=0.0).to(tl.float32)
        second_x = tl.load(start + half, mask=inside, other=0.0).to(tl.float32)
        squares = tl.sum(first_x * first_x + second_x * second_x, axis=1)
        inverse = tl.rsqrt(squares / (2 * half) + epsilon)[:, None]
        first_x *= inverse
        second_x *= inverse
        start = weights + part * (2 * half) + columns
        first_scaled = first * tl.load(start, mask=inside, other=0.0).to(tl.float32)
        second_scaled = second * tl.load(start + half, mask=inside, other=0.0).to(tl.float32)
        along = (tl.sum(first_scaled * first_x + second_scaled * second_x, axis=1) / (2 * half))[:, None]
        first = tl.where(part < normed, inverse * (first_scaled - first_x * along), first)
        second = tl.where(part < normed, inverse * (second_scaled - second_x * along), second)
    start = out + row * out_row + head * (2 * half) + columns
    tl.store(start, first.to(out.dtype.element_ty), mask=inside)
    tl.store(start + half, second.to(out.dtype.element_ty), mask=inside)


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
    _norm(x, weight, epsilon, None, out)


def rms_norm_add(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor) -> Tensor:
    """The norm of each row of `x`, plus `residual`."""
    out = torch.empty_like(residual)
    _norm(x, weight, epsilon, residual, out)
    return out


def _norm(x: Tensor, weight: Tensor, epsilon: float, residual: Tensor | None, out: Tensor) -> None:
    rows, width = x.shape
    added = x if residual is None else residual
    strides = (x.stride(0), added.stride(0), out.stride(0))
    kind = {"adds": residual is not None, "block": triton.next_power_of_2(width), "num_warps": 8}
    _rms_norm[(rows,)](x, weight, added, out, *strides, width, epsilon, **kind)


def rms_norm_backward(
    x: Tensor, weight: Tensor, epsilon: float, dy: Tensor, residual: Tensor | None, out: Tensor
) -> None:
    """The gradient of x, into `out`: that of the norm plus `residual`, what reaches x beside it."""
    rows, width = x.shape
    added = x if residual is None else residual
    strides = (x.stride(0), dy.stride(0), added.stride(0), out.stride(0))
    kind = {"adds": residual is not None, "block": triton.next_power_of_2(width), "num_warps": 8}
    _rms_norm_backward[(rows,)](x, weight, dy, added, out, *strides, width, epsilon, **kind)


def gated(gate_up: Tensor, activation: str, out: Tensor) -> None:
    """The activation of the first half of the columns, times the second half, into `out`."""
    rows, width = out.shape
    launch = _gated[(rows, triton.cdiv(width, BLOCK))]
    launch(gate_up, out, gate_up.stride(0), out.stride(0), width, *FACTORS[activation], block=BLOCK)


def gated_backward(gate_up: Tensor, activation: str, dh: Tensor, out: Tensor, d_gate_up: Tensor) -> None:
    """`gated` again, into `out`, and the gradient of its input, into `d_gate_up`."""
    rows, width = dh.shape
    strides = (gate_up.stride(0), dh.stride(0), out.stride(0), d_gate_up.stride(0))
    launch = _gated_backward[(rows, triton.cdiv(width, BLOCK))]
    launch(gate_up, dh, out, d_gate_up, *strides, width, *FACTORS[activation], block=BLOCK)


def heads(qkv: Tensor, kind: Heads, cos: Tensor, sin: Tensor, out: Tensor) -> None:
    """Query, key and value side by side, normed as `kind` says, the first two rotated, into `out`."""
    weights = qkv if kind.weights is None else kind.weights
    strides = (qkv.stride(0), cos.stride(0), sin.stride(0), out.stride(0))
    grid, options = _launch(len(qkv), kind)
    _heads[grid](qkv, weights, cos, sin, out, *strides, *kind.counts[:2], kind.size // 2, kind.epsilon, **options)


def heads_backward(
    outer: Sequence[Tensor], qkv: Tensor | None, kind: Heads, cos: Tensor, sin: Tensor, out: Tensor
) -> None:
    """The gradients of query, key and value before norm and rotation, side by side, into `out`."""
    qkv = out if qkv is None else qkv
    weights = out if kind.weights is None else kind.weights
    strides = [stride for each in outer for stride in each.stride()[:2]]
    strides += [qkv.stride(0), cos.stride(0), sin.stride(0), out.stride(0)]
    grid, options = _launch(len(out), kind)
    tensors = (*outer, qkv, weights, cos, sin, out)
    _heads_backward[grid](*tensors, *strides, *kind.counts[:2], kind.size // 2, kind.epsilon, **options)


def _launch(rows: int, kind: Heads) -> tuple[tuple[int, int], dict[str, int | bool]]:
    """The programs for heads of so many rows, and how much each of them takes."""
    block = triton.next_power_of_2(kind.size // 2)
    head_block = min(max(1, BLOCK // block), triton.next_power_of_2(sum(kind.counts)))
    options = {"normed": kind.normed, "shared": kind.keys_are_values, "head_block": head_block, "block": block}
    return (rows, triton.cdiv(sum(kind.counts), head_block)), options


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
