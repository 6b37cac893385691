from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn.functional import softplus
from transformers import PreTrainedModel

from stages.layers.packed_rows import Packed, TrainingRow, pack
from stages.training.memory_plan import MemoryPlan
from stages.training.objectives import OBJECTIVES, TokenLosses
from stages.training.trainer import SummaryTrainer, as_dataset
from tests.training.test_trainer import gradients, load, make_trainer, row_losses, rows

__all__ = ["load"]  # a fixture


def test_cross_entropy_takes_each_token_of_the_completions() -> None:
    objective = OBJECTIVES["cross_entropy"]
    packed = objective.pack([TrainingRow([5, 6], [7, 8, 2]), TrainingRow([5], [9])], torch.device("cpu"))
    assert objective.losses(packed, lambda given: given.targets.float()).tolist() == [7.0, 8.0, 2.0, 9.0]
    assert [objective.terms(row) for row in (TrainingRow([5, 6], [7, 8, 2]), TrainingRow([5], [9]))] == [3, 1]
    assert [len(objective.example(tokens)) for tokens in (512, 7)] == [512, 7]


@dataclass(frozen=True)
class Pair:
    """A prompt, a better summary and a worse one."""

    prompt_ids: list[int]
    better: list[int]
    worse: list[int]

    def __len__(self) -> int:
        return sum(map(len, self.completions()))

    def completions(self) -> list[TrainingRow]:
        return [TrainingRow(self.prompt_ids, self.better), TrainingRow(self.prompt_ids, self.worse)]


class Ranking:
    """One term a pair: how far the better summary is from being the likelier one."""

    row = Pair

    def example(self, tokens: int) -> Pair:
        return Pair([1] * (tokens // 4), [1] * (tokens // 4), [1] * (tokens // 4))

    def terms(self, row: Pair) -> int:
        return 1

    def pack(self, rows: Sequence[Pair], device: torch.device) -> Packed:
        return pack([completion for row in rows for completion in row.completions()], device)

    def losses(self, packed: Packed, token_losses: TokenLosses) -> Tensor:
        losses = token_losses(packed)
        better, worse = losses.new_zeros(int(packed.rows[-1]) + 1).index_add(0, packed.rows, losses).view(-1, 2).T
        return softplus(better - worse)


def pairs() -> list[Pair]:
    given = rows([(5, 4)] * 8)
    return [
        Pair(a.prompt_ids, a.completion_ids, b.completion_ids) for a, b in zip(given[::2], given[1::2], strict=True)
    ]


def make_ranking(model: PreTrainedModel, folder: Path, **settings: Any) -> SummaryTrainer:
    trainer = make_trainer(model, folder, objective=Ranking(), **settings)
    trainer.train_dataset = trainer.eval_dataset = as_dataset(pairs())
    return trainer


def test_an_objective_brings_rows_of_its_own(load: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
    """A ranking of pairs is trained, evaluated and planned for by what serves the cross-entropy."""
    trainer = make_ranking(load(), tmp_path, epochs=8.0, learning_rate=5e-3, eval_steps=100)

    def expected() -> float:
        likelihoods = [
            [row_losses(trainer.model.eval(), each).sum() for each in pair.completions()] for pair in pairs()
        ]
        return torch.stack([softplus(better - worse) for better, worse in likelihoods]).mean().item()

    before = expected()
    assert trainer.evaluate()["eval_loss"] == pytest.approx(before, rel=1e-4)
    step = trainer.training_step(trainer.model, {"rows": pairs()})
    assert step.item() == pytest.approx(before, rel=1e-4)
    trainer.probe(64)
    trainer.train()
    after = trainer.evaluate()["eval_loss"]
    assert after == pytest.approx(expected(), rel=1e-4)
    assert after < before / 2


def test_pairs_stay_together_in_micro_batches(load: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
    whole, parts = (
        gradients(make_ranking(load(), tmp_path, plan=MemoryPlan(tokens, 0)), pairs()) for tokens in (1000, 1)
    )
    torch.testing.assert_close(parts, whole, rtol=1e-3, atol=1e-6)
