"""What an adapter learns from the candidates of a row: which of them is to be likelier than which.

Another objective is a class like those below and a line in `PREFERENCES`: it says which candidates of a row it
compares, and what its loss is by their log probabilities. Trainer, memory plan, packed rows and checkpoints serve it as
they serve fine-tuning, whose loss on the reference stands beside.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from stages.core.params import Align
from stages.layers.packed_rows import Packed, TrainingRow, pack
from stages.training.objectives import TokenLosses


@dataclass(frozen=True)
class Compared:
    """A prompt with the ids of what may follow it, each with its stop token.

    Attributes:
        reference_ids: what fine-tuning learns.
        completions: candidates, best first.
        rewards: what each is worth.
        before: the log probability of each under the adapter that training begins from, where that is asked for.
    """

    prompt_ids: list[int]
    reference_ids: list[int]
    completions: list[list[int]]
    rewards: list[float]
    before: list[float] = field(default_factory=list)

    def __len__(self) -> int:
        """Tokens that the model reads: the prompt stands before each completion."""
        return sum(map(len, self.rows()))

    def rows(self) -> list[TrainingRow]:
        """The reference and then the candidates, each after the prompt."""
        return [TrainingRow(self.prompt_ids, ids) for ids in (self.reference_ids, *self.completions)]


class Preference(Protocol):
    """Compares candidates of a row."""

    begins_from: bool
    """Whether it asks for `Compared.before`."""

    def choose(self, rewards: Sequence[float]) -> list[int]:
        """The positions of the candidates to compare, best first; none where there is nothing to learn.

        Args:
            rewards: of each candidate; no two candidates are the same text.
        """

    def loss(self, sums: Tensor, counts: Tensor, row: Compared) -> Tensor:
        """The loss of a row.

        Args:
            sums: the log probability of each of its completions.
            counts: their tokens.
        """


class Ranking:
    """A better candidate is to have a token's log probability above a worse one's, by a margin for each rank between.

    The loss of BRIO (https://arxiv.org/abs/2203.16804), as a mean over pairs; candidates of one reward are no pair.
    """

    begins_from = False

    def __init__(self, settings: Align) -> None:
        self.most, self.margin = settings.candidates, settings.margin

    def choose(self, rewards: Sequence[float]) -> list[int]:
        order = sorted(range(len(rewards)), key=lambda place: -rewards[place])
        if len(order) < 2 or rewards[order[0]] == rewards[order[-1]]:
            return []
        count = min(self.most, len(order))
        return [order[round(number * (len(order) - 1) / (count - 1))] for number in range(count)]

    def loss(self, sums: Tensor, counts: Tensor, row: Compared) -> Tensor:
        means = sums / counts
        rewards = torch.tensor(row.rewards, device=means.device)
        better, worse = torch.nonzero(rewards[:, None] > rewards, as_tuple=True)
        return (means[worse] - means[better] + self.margin * (worse - better)).relu().mean()


class Dpo:
    """The best candidate is to gain on the worst, beside what each had before (https://arxiv.org/abs/2305.18290)."""

    begins_from = True

    def __init__(self, settings: Align) -> None:
        self.beta, self.least_gap = settings.beta, settings.least_gap

    def choose(self, rewards: Sequence[float]) -> list[int]:
        if not rewards or max(rewards) - min(rewards) < self.least_gap or max(rewards) == min(rewards):
            return []
        return [rewards.index(max(rewards)), rewards.index(min(rewards))]

    def loss(self, sums: Tensor, counts: Tensor, row: Compared) -> Tensor:
        gains = sums - torch.tensor(row.before or [0.0, 0.0], device=sums.device)
        return -logsigmoid(self.beta * (gains[0] - gains[1]))


PREFERENCES: dict[str, Callable[[Align], Preference]] = {"ranking": Ranking, "dpo": Dpo}
"""By the names that `align.objective` has for them."""


@dataclass(frozen=True)
class PackedRows(Packed):
    """Reference and candidates of each row end to end, with the rows that they are of."""

    compared: Sequence[Compared]


class Comparing:
    """One term a row: the loss of a preference, and the mean loss of the reference's tokens by its weight."""

    row = Compared

    def __init__(self, preference: Preference, fine_tuning: float) -> None:
        self.preference, self.fine_tuning = preference, fine_tuning

    def example(self, tokens: int) -> Compared:
        part = max(1, tokens // 6)
        rest = max(0, tokens - 6 * part)
        return Compared([1] * part, [1] * (part + rest), [[1] * part, [1] * part], [1.0, 0.0])

    def terms(self, row: Compared) -> int:
        return 1

    def pack(self, rows: Sequence[Compared], device: torch.device) -> PackedRows:
        return PackedRows(**vars(pack([each for row in rows for each in row.rows()], device)), compared=rows)

    def losses(self, packed: Packed, token_losses: TokenLosses) -> Tensor:
        assert isinstance(packed, PackedRows)
        sizes = [1 + len(row.completions) for row in packed.compared]
        losses = token_losses(packed)
        counts = torch.bincount(packed.rows, minlength=sum(sizes))
        sums = losses.new_zeros(sum(sizes)).index_add(0, packed.rows, losses)
        each = zip(packed.compared, (-sums).split(sizes), counts.split(sizes), strict=True)
        return torch.stack(
            [
                self.preference.loss(of[1:], tokens[1:], row) - self.fine_tuning * of[0] / tokens[0]
                for row, of, tokens in each
            ]
        )
