"""Linear layers that hold a quantized weight: which they are, and their weights as products take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bitsandbytes
import torch
from bitsandbytes.functional import dequantize_4bit
from torch import Tensor, nn

Dequantize = Callable[[nn.Linear, Tensor | None], Tensor]
"""Gives a layer's weight, out x in, in its compute dtype; it is written to the second argument where there is one."""


def _four_bits(layer: nn.Linear, out: Tensor | None) -> Tensor:
    weight: Tensor
    held: Any = layer.weight
    if out is None or not out.is_cuda:  # bitsandbytes takes no `out` on a CPU
        weight = dequantize_4bit(held.data, held.quant_state)
        return weight if out is None else out.copy_(weight)
    weight = dequantize_4bit(held.data, held.quant_state, out=out)
    return weight


QUANTIZED: dict[type[nn.Linear], Dequantize] = {bitsandbytes.nn.Linear4bit: _four_bits}


def is_quantized(layer: nn.Module) -> bool:
    """Whether a layer holds its weight in fewer bits than it computes in."""
    return isinstance(layer, tuple(QUANTIZED))


def dense_weight(layer: nn.Linear, out: Tensor | None = None) -> Tensor:
    """A layer's weight, out x in; a quantized one dequantized, into `out` where that is given."""
    for kind, dequantize in QUANTIZED.items():
        if isinstance(layer, kind):
            return dequantize(layer, out)
    return layer.weight.detach() if out is None else out.copy_(layer.weight.detach())


def dense_dtype(layer: nn.Linear) -> torch.dtype:
    """The dtype of `dense_weight`."""
    state = getattr(layer.weight, "quant_state", None)
    dtype: torch.dtype = layer.weight.dtype if state is None else state.dtype
    return dtype
