"""Linear layers of a model on a CPU, with their weights prepacked: in the layout that oneDNN's products read.

PyTorch's products of bfloat16 pack a weight anew each time, which for the few rows of a decoding step takes a quarter
of the product's time. oneDNN takes prepacked weights; PyTorch has that for its own compiler, which would need another
compiler on the user's machine.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from stages.layers.lora_linear import LoraLinear

ROWS = 64
"""Of a product, about as many as a decoding step has."""


class PackedLinear(nn.Module):
    """A frozen linear layer whose weight can be multiplied with, and nothing else."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.packed = torch.ops.mkldnn._reorder_linear_weight(linear.weight.detach(), ROWS)
        self.bias = linear.bias

    def forward(self, x: Tensor) -> Tensor:
        """... x in to ... x out."""
        output: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.packed, self.bias, "none", [], "")
        return output


def pack_linears(model: PreTrainedModel) -> None:
    """Put a `PackedLinear` in the place of a CPU model's output embedding and of its layers with a merged adapter."""
    if model.dtype is not torch.bfloat16 or not torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return
    for layer in model.modules():
        if isinstance(layer, LoraLinear) and _can_be_packed(layer.get_base_layer()):
            layer.base_layer = PackedLinear(layer.get_base_layer())
    if _can_be_packed(model.get_output_embeddings()):
        model.set_output_embeddings(PackedLinear(model.get_output_embeddings()))


def _can_be_packed(layer: nn.Module) -> bool:
    """4-bit layers are linear ones too, by their class."""
    return type(layer) is nn.Linear and layer.weight.dtype is torch.bfloat16
