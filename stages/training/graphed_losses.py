"""The losses of a small model and their gradients as CUDA graphs.

The kernels of a step of a thousand tokens take Gemma 3 270M a few milliseconds, and launching them one by one many
times as long. A graph is launched at once, but for inputs of one shape: rows are filled up to a few shapes.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import pad
from transformers import PreTrainedModel

from stages.layers.fused_layer import can_be_graphed, refresh
from stages.layers.packed_rows import Packed

TOKENS = 512
PREDICTED = 256
ROWS = 8
"""What inputs are filled up to multiples of: the work on more is far less than what launching takes."""
MOST_WORK = 5e12
"""FLOP of a step, which an H200 computes in some 15 ms. Beyond it launching counts for less, and the memory of the
largest graph, which is kept between steps, for more."""
MOST_GRAPHS = 16
"""Each keeps gradients of its own."""

Shape = tuple[int, int, int]
Losses = Callable[[Packed], Tensor]


class GraphedLosses:
    """The losses of packed rows under the adapters as they are, by a graph where a shape comes a second time.

    A shape's first rows are filled up too: a training that is resumed begins to count anew, and is to round alike.
    Gradients lie in the graph's memory until the next step: all rows of a step have to be in one batch.

    Args:
        losses: computes them after a `refresh` of the model.
    """

    def __init__(self, model: PreTrainedModel, losses: Losses) -> None:
        self._model, self._losses = model, losses
        self._weights = sum(weight.numel() for weight in model.parameters())
        self._can = can_be_graphed(model)
        self._seen: Counter[Shape] = Counter()
        self._graphs: dict[Shape, Any] = {}
        self._pool: Any = None

    @property
    def count(self) -> int:
        """How many graphs there are."""
        return len(self._graphs)

    def __call__(self, packed: Packed) -> Tensor:
        """The cross-entropy of each predicted token, K."""
        shape = full_shape(packed)
        if not self._can or 4 * self._weights * shape[0] > MOST_WORK:
            refresh(self._model)
            return self._losses(packed)
        inputs = filled(packed, shape)
        self._seen[shape] += 1
        if shape not in self._graphs and self._seen[shape] > 1 and len(self._graphs) < MOST_GRAPHS:
            self._pool = self._pool or torch.cuda.graph_pool_handle()
            self._graphs[shape] = torch.cuda.make_graphed_callables(self._of(shape), inputs, pool=self._pool)
        losses: Tensor = (self._graphs.get(shape) or self._of(shape))(*inputs)
        return losses[: len(packed.targets)]

    def _of(self, shape: Shape) -> LossesOfTensors:
        return LossesOfTensors(self._model, self._losses, longest=shape[0])


def full_shape(packed: Packed) -> Shape:
    """Tokens, predictions and rows that an input is filled up to; there is always a row more."""
    bounds = torch.as_tensor(packed.inputs["cu_seq_lens_q"])
    tokens = torch.as_tensor(packed.inputs["input_ids"]).shape[1]
    return _up(tokens, TOKENS), _up(len(packed.targets), PREDICTED), _up(len(bounds), ROWS)


def _up(count: int, step: int) -> int:
    return -(-count // step) * step


def filled(packed: Packed, shape: Shape) -> tuple[Tensor, ...]:
    """Ids, positions, bounds of rows, places of predictions and targets, filled up: by a row, and rows of no token."""
    tokens, predicted, rows = shape
    ids, positions, bounds = (
        torch.as_tensor(packed.inputs[name]) for name in ("input_ids", "position_ids", "cu_seq_lens_q")
    )
    more = tokens - ids.shape[1]
    bounds = pad(bounds, (0, rows + 1 - len(bounds)), value=tokens)
    predictions = predicted - len(packed.targets)
    places, targets = (pad(each, (0, predictions)) for each in (packed.positions, packed.targets))
    return pad(ids, (0, more)), pad(positions, (0, more)), bounds, places, targets


class LossesOfTensors(nn.Module):
    """The losses as a function of tensors alone, and of the model's parameters, which fused layers take over first."""

    def __init__(self, model: PreTrainedModel, losses: Losses, longest: int) -> None:
        super().__init__()
        self.model = model
        self._losses, self._longest = losses, longest

    def forward(self, ids: Tensor, positions: Tensor, bounds: Tensor, places: Tensor, targets: Tensor) -> Tensor:
        refresh(self.model)
        inputs: dict[str, Tensor | int] = {
            "input_ids": ids,
            "position_ids": positions,
            "cu_seq_lens_q": bounds,
            "cu_seq_lens_k": bounds,
            "max_length_q": self._longest,
            "max_length_k": self._longest,
        }
        return self._losses(Packed(inputs, places, targets, rows=places))
