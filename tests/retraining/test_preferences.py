from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from torch import Tensor, tensor
from transformers import PreTrainedModel, set_seed
from trl import DPOConfig, DPOTrainer

from stages.core.params import Align, load_params
from stages.layers.packed_rows import TrainingRow
from stages.models.tokenizer import load_tokenizer
from stages.retraining.align import log_probabilities
from stages.retraining.preferences import PREFERENCES, Compared, Comparing, Dpo, Ranking
from stages.training.memory_plan import MemoryPlan
from stages.training.trainer import as_dataset
from tests.tiny_project import ROOT
from tests.training.test_trainer import gradients, load, make_trainer, row_losses, rows

__all__ = ["load"]  # a fixture


def settings(**values: Any) -> Align:
    return load_params(ROOT / "params.yaml").align.model_copy(update=values)


def compared(count: int = 3) -> list[Compared]:
    """Rows of random tokens, each with so many candidates of different lengths."""
    lengths = [(5, 4), *((5, 3 + 2 * number) for number in range(count))] * 3
    given = rows(lengths)
    groups = [given[start : start + 1 + count] for start in range(0, len(given), 1 + count)]
    return [
        Compared(
            reference.prompt_ids,
            reference.completion_ids,
            [each.completion_ids for each in others],
            [float(-number) for number in range(count)],
        )
        for reference, *others in groups
    ]


def test_a_row_is_read_as_its_completions_after_its_prompt() -> None:
    row = Compared([5, 6], [7, 2], [[8, 2], [9, 9, 2]], [1.0, 0.0])
    assert row.rows() == [TrainingRow([5, 6], ids) for ids in ([7, 2], [8, 2], [9, 9, 2])]
    assert len(row) == 4 + 4 + 5
    objective = Comparing(Ranking(settings()), 0.1)
    assert [len(objective.example(tokens)) for tokens in (512, 1024)] == [512, 1024]


def test_ranking_compares_candidates_from_the_best_to_the_worst() -> None:
    rewards = [3.0, 9.0, 1.0, 7.0, 5.0]
    assert Ranking(settings(candidates=8)).choose(rewards) == [1, 3, 4, 0, 2]
    assert Ranking(settings(candidates=3)).choose(rewards) == [1, 4, 2]
    assert Ranking(settings(candidates=2)).choose(rewards) == [1, 2]
    assert Ranking(settings()).choose([4.0, 4.0]) == Ranking(settings()).choose([4.0]) == []


def test_the_loss_of_a_ranking_by_hand() -> None:
    row = Compared([5], [2], [[8, 2], [9, 2], [7, 7, 7, 2]], [9.0, 4.0, 4.0])
    sums, counts = tensor([-4.0, -2.0, -4.0]), tensor([2, 2, 4])
    # Means are -2, -1 and -1. The pairs are (0, 1), whose margin is one rank's, and (0, 2), whose is two ranks'.
    loss = Ranking(settings(margin=0.25)).loss(sums, counts, row)
    assert loss.item() == pytest.approx(((1 + 0.25) + (1 + 0.5)) / 2)
    assert Ranking(settings(margin=0.25)).loss(tensor([0.0, -2.0, -4.0]), counts, row).item() == 0


def test_dpo_compares_the_best_with_the_worst_where_they_are_apart() -> None:
    assert Dpo(settings(least_gap=5.0)).choose([3.0, 9.0, 1.0]) == [1, 2]
    assert Dpo(settings(least_gap=8.5)).choose([3.0, 9.0, 1.0]) == []
    assert Dpo(settings(least_gap=0.0)).choose([3.0, 3.0]) == Dpo(settings()).choose([]) == []


@pytest.mark.parametrize("name", PREFERENCES)
def test_the_loss_is_that_of_its_rows_one_by_one(
    name: str, load: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    preference = PREFERENCES[name](settings(margin=0.2))
    given = compared(2 if name == "dpo" else 3)
    trainer = make_trainer(load(), tmp_path, objective=Comparing(preference, 0.5))

    def alone(row: Compared) -> Tensor:
        reference, *others = [row_losses(trainer.model.eval(), each) for each in row.rows()]
        sums = torch.stack([-losses.sum() for losses in others])
        counts = tensor([len(losses) for losses in others])
        return preference.loss(sums, counts, row) + 0.5 * reference.mean()

    expected = torch.stack([alone(row) for row in given])
    trainer.train_dataset = trainer.eval_dataset = as_dataset(given)
    assert trainer.evaluate()["eval_loss"] == pytest.approx(expected.mean().item(), rel=1e-4)
    assert trainer.training_step(trainer.model, {"rows": given}).item() == pytest.approx(
        expected.mean().item(), rel=1e-4
    )
    whole = gradients(trainer, given)
    trainer.use(MemoryPlan(1, 0))
    torch.testing.assert_close(gradients(trainer, given), whole, rtol=1e-3, atol=1e-6)


def test_the_loss_of_dpo_is_that_of_trl(
    load: Callable[..., PreTrainedModel], tiny_manifest: Path, tmp_path: Path
) -> None:
    """Both begin from one adapter, which is the reference, and are then moved alike."""
    given = compared(2)
    ours = make_trainer(load(), tmp_path, objective=Comparing(Dpo(settings(beta=0.3)), 0.0))
    begun = [log_probabilities(ours, row) for row in given]
    model = get_peft_model(load(), LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM"))
    set_peft_model_state_dict(model, get_peft_model_state_dict(ours.model))
    theirs = DPOTrainer(
        model=model,
        args=DPOConfig(
            str(tmp_path), beta=0.3, report_to="none", bf16=False, use_cpu=True, gradient_checkpointing=False
        ),
        train_dataset=Dataset.from_list([{"prompt": "a", "chosen": "b", "rejected": "c"}]),
        processing_class=load_tokenizer(tiny_manifest),
    )
    examples = [
        {"prompt_ids": row.prompt_ids, "chosen_ids": row.completions[0], "rejected_ids": row.completions[1]}
        for row in given
    ]
    for each in (ours.model, theirs.model):
        set_seed(3)
        for _, parameter in sorted((name, one) for name, one in each.named_parameters() if ".default." in name):
            parameter.data += 0.05 * torch.randn_like(parameter)
    with torch.no_grad():
        expected = theirs.compute_loss(theirs.model.eval(), theirs.data_collator(examples)).item()
    known = [replace(row, before=of) for row, of in zip(given, begun, strict=True)]
    ours.eval_dataset = as_dataset(known)
    assert ours.evaluate()["eval_loss"] == pytest.approx(expected, rel=1e-4)
    assert abs(expected - math.log(2)) > 0.01
