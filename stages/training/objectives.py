"""What a training makes small: the mean of a step's terms, which an objective takes from its rows.

Another objective is a class of this kind, as that of `stages.retraining.preferences`, which compares candidates;
session, trainer, memory plan and checkpoints serve it as they are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from stages.layers.packed_rows import Packed, TrainingRow, pack

TokenLosses = Callable[[Packed], Tensor]
"""The cross-entropy of each predicted token of packed rows, K, under the model as it is; summed over a completion it
is the negative of its log probability."""


class TrainingObjective(Protocol):
    """From rows to losses. A row is never divided between two micro-batches, so what is compared belongs in one."""

    row: type[Any]
    """The dataclass of a row; its length is how many tokens the model reads for it."""

    def example(self, tokens: int) -> Any:
        """A row of that many tokens, on which memory is measured."""

    def terms(self, row: Any) -> int:
        """How many losses a row has, at least one."""

    def pack(self, rows: Sequence[Any], device: torch.device) -> Packed:
        """The rows of a micro-batch end to end, as the model reads them."""

    def losses(self, packed: Packed, token_losses: TokenLosses) -> Tensor:
        """The losses of all rows, in their order, each as many as `terms` says."""


class CrossEntropy:
    """Each token of the completion is a term, and none of the prompt."""

    row = TrainingRow

    def example(self, tokens: int) -> TrainingRow:
        return TrainingRow([1] * (tokens // 2), [1] * (tokens - tokens // 2))

    def terms(self, row: TrainingRow) -> int:
        return len(row.completion_ids)

    def pack(self, rows: Sequence[TrainingRow], device: torch.device) -> Packed:
        return pack(rows, device)

    def losses(self, packed: Packed, token_losses: TokenLosses) -> Tensor:
        return token_losses(packed)


CROSS_ENTROPY: TrainingObjective = CrossEntropy()
OBJECTIVES: dict[str, TrainingObjective] = {"cross_entropy": CROSS_ENTROPY}
"""By name."""
