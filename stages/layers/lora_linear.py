"""LoRA layers whose activations stay in the compute dtype, whatever the adapter's own is."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from peft.tuners import lora
from torch import Tensor
from torch.nn.functional import linear

from stages.layers.quantized_linear import QUANTIZED


class LoraLinear(lora.Linear):  # type: ignore[misc]
    """PEFT's LoRA layer for full-precision and quantized linear layers alike.

    PEFT's own casts its input to the adapter's float32 and multiplies there: on an H100 the casts and products of
    one layer then cost more than the frozen product. Casting the adapter's few weights instead gives products in the
    compute dtype; their gradients are float32 again.
    """

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        if not self.adds_default():
            output: Tensor = super().forward(x, *args, **kwargs)
            return output
        down, up = low_rank(self, x.dtype)
        base: Tensor = self.base_layer(x)
        thin = linear(self.lora_dropout["default"](x), down)
        if torch.is_grad_enabled() or not x.is_cuda:
            return base + linear(thin, up)
        # A sum beside the product would be two more passes over memory: a tenth of the time to read a prompt.
        base.flatten(0, -2).addmm_(thin.flatten(0, -2), up.T)
        return base

    def adds_default(self) -> bool:
        """Whether its output is the base layer's plus that of the adapter `default`, and nothing else."""
        return not self.disable_adapters and not self.merged and self.active_adapters == ["default"]


def low_rank(layer: lora.LoraLayer, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """A layer's adapter as two products: rank x in, and out x rank with its scale already in it."""
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    return down.to(dtype), (up * layer.scaling["default"]).to(dtype)


def use_lora_linear(config: LoraConfig) -> LoraConfig:
    """Have PEFT make `LoraLinear` of every layer that gets a plain adapter; DoRA keeps PEFT's own layers."""
    if not config.use_dora:
        config._register_custom_module(dict.fromkeys((torch.nn.Linear, *QUANTIZED), LoraLinear))
    return config
