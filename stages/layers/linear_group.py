"""Frozen linear layers that read the same input, and their adapters, as few products as can be.

For layers y = x W' + (x A') B' with the scale in B, a group computes t = x A' and then, where the weights are held
in the compute dtype, one product [x, t] [W, B]': the thin product's result never makes a pass through memory of its
own, which costs as much as it does to add two tensors of the size of y. In the backward pass likewise u = dy B and
dx = [dy, u] [[W], [A]]. So W lies in the corner of a larger tensor, with B to its right and A below it.

4-bit weights are dequantized into memory that all groups of their shape share, and adapters are added in place; so
they are where the weights are rounded to 8-bit floats, whose products take half the time.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import ScalingType, scaled_mm

from stages.layers.elementwise import functions_for
from stages.layers.lora_linear import LoraLinear
from stages.layers.quantized_linear import dense_dtype, dense_weight, is_quantized

ALIGNMENT = 64
"""Extra columns come in multiples of this, 128 bytes: on an H100, products of rows that begin elsewhere are 10%
slower, which is more than the extra columns cost."""
CPU_ALIGNMENT = 16
"""On a CPU they cost what they are: 64 bytes of float32, a line of its cache, are enough."""


Scratch = dict[torch.Size, tuple[Tensor, list[nn.Linear]]]
"""What quantized weights are dequantized into, by shape, and the layers whose weights are there."""


class Groups:
    """Makes the groups of a model."""

    def __init__(self, fp8: bool) -> None:
        self._fp8 = fp8
        self._scratch: Scratch = {}

    def make(self, layers: Sequence[LoraLinear]) -> Group:
        """The group of some layers that read the same input."""
        if self._fp8:
            return Fp8Group(layers)
        if is_quantized(layers[0].get_base_layer()):
            return QuantizedGroup(layers, self._scratch)
        return DenseGroup(layers)


class Group(ABC):
    """Layers with plain adapters that read the same input; T x width in, T x height out."""

    extra = 0
    """Columns that inputs and output gradients have beside their own."""
    rounds = False
    """Whether products are taken in fewer bits than the layers' own."""
    _down: Tensor
    """All A, ranks x width; rows beyond the ranks are zero."""
    _up: Tensor
    """All B with their scale, height x ranks; zero beside the block of each layer."""

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        self.layers = layers
        self.sizes = [layer.out_features for layer in layers]
        self.width, self.height = layers[0].in_features, sum(self.sizes)
        # Finding them anew at each step takes as long as some kernels.
        self._adapters = [side["default"] for layer in layers for side in (layer.lora_A, layer.lora_B)]
        self._ranks = [layer.r["default"] for layer in layers]
        self._scales = [layer.scaling["default"] for layer in layers]
        biases = [layer.get_base_layer().bias for layer in layers]
        self._bias = None if biases[0] is None else torch.cat([bias.detach() for bias in biases])

    def parameters(self) -> list[Tensor]:
        """The trained tensors: A and B of each layer."""
        return [side.weight for side in self._adapters]

    def new_input(self, like: Tensor) -> Tensor:
        """Memory for an input, as many rows as `like` has: only the first `width` columns are to be filled."""
        return like.new_empty(len(like), self.width + self.extra)

    def new_output_gradient(self, like: Tensor) -> Tensor:
        """Memory for an output's gradient, of which the first `height` columns are to be filled."""
        return like.new_empty(len(like), self.height + self.extra)

    def widen_input(self, x: Tensor) -> Tensor:
        """An input as `forward` takes it."""
        return _copy(x, self.new_input(x)) if self.extra else x

    def widen(self, dy: Tensor) -> Tensor:
        """An output's gradient as the methods below take it."""
        return _copy(dy, self.new_output_gradient(dy)) if self.extra else dy.contiguous()

    @abstractmethod
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The outputs side by side, T x height, and the adapters' inner results t, T x ranks."""

    @abstractmethod
    def input_gradient(self, dy: Tensor) -> tuple[Tensor, Tensor]:
        """The gradients of the input, T x width, and of t, T x ranks."""

    def adapter_gradients(self, x: Tensor, thin: Tensor, dy: Tensor, d_thin: Tensor) -> list[Tensor]:
        """The gradients of `parameters()`.

        Args:
            x: the input, T x width.
            thin: what `forward` gave for it.
            dy: the gradient of the output, as `input_gradient` takes it.
            d_thin: what `input_gradient` gave for it.
        """
        for_down = (d_thin.T @ x).float().split([*self._ranks, d_thin.shape[1] - sum(self._ranks)])
        for_up = (dy[:, : self.height].T @ thin).float().split(self.sizes)
        gradients: list[Tensor] = []
        column = 0
        for rank, scale, down, up in zip(self._ranks, self._scales, for_down, for_up, strict=False):
            gradients += [down, up[:, column : column + rank] * scale]
            column += rank
        return gradients

    def backward(self, x: Tensor, thin: Tensor, dy: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The gradients of the input and of `parameters()`."""
        dx, d_thin = self.input_gradient(dy)
        return dx, self.adapter_gradients(x, thin, dy, d_thin)

    @torch.no_grad()
    def refresh(self) -> None:
        """Take over the adapters as they are now: what the products use is a copy of them."""
        down, up = self._down, self._up
        parameters = self.parameters()
        row = column = 0
        for a, b, rank, size, scale in zip(
            parameters[::2], parameters[1::2], self._ranks, self.sizes, self._scales, strict=True
        ):
            down[column : column + rank].copy_(a)
            torch.mul(b, scale, out=up[row : row + size, column : column + rank])
            row, column = row + size, column + rank


class DenseGroup(Group):
    """Weights in the compute dtype, which become views of the group's."""

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        super().__init__(layers)
        bases = [layer.get_base_layer() for layer in layers]
        alignment = ALIGNMENT if bases[0].weight.is_cuda else CPU_ALIGNMENT
        self.extra = -(-sum(self._ranks) // alignment) * alignment
        self._whole = bases[0].weight.new_zeros(self.height + self.extra, self.width + self.extra)
        for base, part in zip(bases, self._whole[: self.height, : self.width].split(self.sizes), strict=True):
            part.copy_(base.weight.detach())
            base.weight = nn.Parameter(part, requires_grad=False)
        self._down, self._up = self._whole[self.height :, : self.width], self._whole[: self.height, self.width :]

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        thin = x[:, self.width :]
        torch.mm(x[:, : self.width], self._down.T, out=thin)
        weight = self._whole[: self.height]
        y = x @ weight.T if self._bias is None else torch.addmm(self._bias, x, weight.T)
        return y, thin.clone()

    def input_gradient(self, dy: Tensor) -> tuple[Tensor, Tensor]:
        d_thin = dy[:, self.height :]
        torch.mm(dy[:, : self.height], self._up, out=d_thin)
        return dy @ self._whole[:, : self.width], d_thin


class QuantizedGroup(Group):
    """Quantized weights."""

    def __init__(self, layers: Sequence[LoraLinear], scratch: Scratch) -> None:
        super().__init__(layers)
        self._bases = [layer.get_base_layer() for layer in layers]
        kind = {"dtype": dense_dtype(self._bases[0]), "device": self._bases[0].weight.device}
        self._down = torch.zeros(sum(self._ranks), self.width, **kind)
        self._up = torch.zeros(self.height, sum(self._ranks), **kind)
        self._shape = torch.Size((self.height, self.width))
        self._scratch = scratch
        if self._shape not in scratch:
            scratch[self._shape] = (torch.empty(self._shape, **kind), [])

    def _weight(self) -> Tensor:
        weight: Tensor
        weight, owner = self._scratch[self._shape]
        # A layer that computes its activations again has its weights there already when its gradients are taken.
        if owner is not self._bases:
            for base, part in zip(self._bases, weight.split(self.sizes), strict=True):
                dense_weight(base, part)
            self._scratch[self._shape] = (weight, self._bases)
        return weight

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        thin = x @ self._down.T
        weight = self._weight()
        y = x @ weight.T if self._bias is None else torch.addmm(self._bias, x, weight.T)
        y.addmm_(thin, self._up.T)
        return y, thin

    def input_gradient(self, dy: Tensor) -> tuple[Tensor, Tensor]:
        d_thin = dy @ self._up
        return (dy @ self._weight()).addmm_(d_thin, self._down), d_thin


class Fp8Group(Group):
    """Products in 8-bit floats, each row of either side with a scale of its own; adapters in the compute dtype.

    The weights are those of the layers, 4-bit or not, rounded once more: their rows for the outputs, and again their
    columns for the gradients of the inputs. The layers keep theirs for all that does not train.
    """

    rounds = True

    def __init__(self, layers: Sequence[LoraLinear]) -> None:
        super().__init__(layers)
        weight = torch.cat([dense_weight(layer.get_base_layer()) for layer in layers])
        self._for_output = to_fp8(weight)
        self._for_input = to_fp8(weight.T.contiguous())
        self._down = weight.new_zeros(sum(self._ranks), self.width)
        self._up = weight.new_zeros(self.height, sum(self._ranks))

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        thin = x @ self._down.T
        y = _fp8_product(x, self._for_output)
        if self._bias is not None:
            y += self._bias
        return y.addmm_(thin, self._up.T), thin

    def input_gradient(self, dy: Tensor) -> tuple[Tensor, Tensor]:
        d_thin = dy @ self._up
        return _fp8_product(dy, self._for_input).addmm_(d_thin, self._down), d_thin


def to_fp8(x: Tensor) -> tuple[Tensor, Tensor]:
    """Rows in 8-bit floats, and their scales, rows x 1."""
    rounded: tuple[Tensor, Tensor] = functions_for(x).to_fp8(x)
    return rounded


def _fp8_product(x: Tensor, weight: tuple[Tensor, Tensor]) -> Tensor:
    """x W' in the dtype of x, for the rows of W in 8 bits."""
    rows, scales = to_fp8(x)
    rowwise = ScalingType.RowWise
    # Sums of fewer bits are 10% faster on an H100, and off by far less than what was rounded to 8 bits.
    return scaled_mm(
        rows, weight[0].T, scales, rowwise, weight[1].T, rowwise, output_dtype=x.dtype, use_fast_accum=x.is_cuda
    )


def _copy(x: Tensor, wide: Tensor) -> Tensor:
    functions_for(x).copy(x, wide[:, : x.shape[1]])
    return wide
