from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from transformers import PreTrainedModel

from stages.training.session import measure
from tests.training.test_trainer import load, make_trainer, rows

__all__ = ["load"]  # a fixture


class Previews:
    """Notes the attention that it generates with."""

    def __init__(self) -> None:
        self.attention = ""

    def run(self, model: PreTrainedModel, step: int) -> dict[str, float]:
        raise AssertionError("nothing is previewed before training")

    def seconds(self, model: PreTrainedModel) -> float:
        self.attention = model.config._attn_implementation
        return 2.5


def test_measuring_teaches_nothing_and_draws_nothing(load: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
    trainer, previews = make_trainer(load(), tmp_path, lora={"lora_dropout": 0.2}), Previews()
    packed = trainer.base.config._attn_implementation
    before = {name: weight.clone() for name, weight in trainer.model.named_parameters()}
    random = torch.get_rng_state()
    speed, previewing, memory = measure(trainer, rows()[:3], previews)
    assert speed > 0
    assert previewing == 2.5
    assert memory > 0
    torch.testing.assert_close(dict(trainer.model.named_parameters()), before, rtol=0, atol=0)
    assert all(weight.grad is None for weight in trainer.model.parameters())
    assert torch.equal(torch.get_rng_state(), random)
    assert previews.attention == trainer.family.attention != packed
    assert trainer.base.config._attn_implementation == packed
    assert measure(trainer, rows()[:1], None)[1] == 0
