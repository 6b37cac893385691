from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset
from peft import LoraConfig
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, TrainerCallback, set_seed

from stages.common.errors import UserError
from stages.common.loss import token_losses
from stages.common.model import load_base
from stages.common.params import Params, Quantization, load_params
from stages.common.trainer import IGNORED, CompletionCollator, SummaryTrainer, TrainingRow
from stages.train import sft_config
from tests.tiny_project import ROOT

PAD = 0
LENGTHS = [(3, 5), (11, 2), (1, 1), (7, 9), (20, 4), (2, 12), (9, 3), (5, 6)]
"""Tokens of the prompt and of the completion, row by row."""

Features = dict[str, list[int]]


def rows(lengths: list[tuple[int, int]] = LENGTHS) -> list[Features]:
    """Rows of random tokens, those of special meaning left out."""
    generator = torch.Generator().manual_seed(0)

    def tokens(n: int) -> list[int]:
        ids: list[int] = torch.randint(3, 1024, (n,), generator=generator).tolist()
        return ids

    return [TrainingRow(tokens(prompt), tokens(completion)).as_features() for prompt, completion in lengths]


def params(**train: Any) -> Params:
    """The repository's parameters, with other values in section train."""
    values = load_params(ROOT / "params.yaml")
    return values.model_copy(update={"train": values.train.model_copy(update=train)})


@pytest.fixture(scope="module")
def load(tiny_manifest: Path) -> Callable[..., PreTrainedModel]:
    """Load the tiny model: in float32 for exact comparisons, or in NF4 as it is trained."""

    def load(*, nf4: bool = False) -> PreTrainedModel:
        quantization = Quantization(
            load_in_4bit=nf4, type="nf4", double_quant=True, compute_dtype="bfloat16" if nf4 else "float32"
        )
        return load_base(tiny_manifest, quantization)

    return load


def make_trainer(
    model: PreTrainedModel,
    folder: Path,
    *,
    preview: Callable[[int], dict[str, float]] = lambda step: {},
    callbacks: list[TrainerCallback] | None = None,
    **train: Any,
) -> SummaryTrainer:
    """A trainer with the stage's own settings, whose adapter already does something."""
    set_seed(1)
    return SummaryTrainer(
        model=model,
        args=sft_config(params(**train), folder, model),
        train_dataset=Dataset.from_list(rows()),
        eval_dataset=Dataset.from_list(rows()[:5]),
        data_collator=CompletionCollator(PAD),
        peft_config=LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False),
        preview=preview,
        callbacks=callbacks,
    )


class OneStep(TrainerCallback):  # type: ignore[misc]
    """Stops training after its first step; keeps the adapter's gradients, and whether activations were recomputed."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}
        self.recomputed = False

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: torch.nn.Module, **kwargs: Any) -> None:
        named = model.named_parameters()
        self.gradients = {name: weight.grad.clone() for name, weight in named if weight.grad is not None}
        self.recomputed = any(getattr(module, "gradient_checkpointing", False) for module in model.modules())

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = True


def train_one_step(model: PreTrainedModel, folder: Path, **train: Any) -> tuple[SummaryTrainer, OneStep]:
    """A step over all rows at the full learning rate, with gradients that are not scaled down."""
    step = OneStep()
    trainer = make_trainer(model, folder, callbacks=[step], max_grad_norm=1e9, warmup_ratio=0.0, **train)
    trainer.train()
    return trainer, step


def gradients(trainer: SummaryTrainer, batch: list[Features]) -> list[torch.Tensor]:
    trainer.model.zero_grad()
    torch.autograd.backward(trainer.compute_loss(trainer.model.train(), CompletionCollator(PAD)(batch)))
    return [weight.grad.clone() for weight in trainer.model.parameters() if weight.requires_grad]


def row_losses(model: torch.nn.Module, row: Features) -> torch.Tensor:
    """The loss of each completion token of a row that stands alone: no padding, all logits."""
    ids, labels = torch.tensor([row["input_ids"]]), torch.tensor(row["labels"])
    with torch.no_grad():
        logits = model(input_ids=ids).logits[0].float()
    losses = cross_entropy(logits[:-1], labels[1:], reduction="none", ignore_index=IGNORED)
    return losses[labels[1:] != IGNORED]


def test_labels_are_the_completion_alone() -> None:
    assert TrainingRow([5, 6], [7, 8, 2]).as_features() == {
        "input_ids": [5, 6, 7, 8, 2],
        "labels": [-100, -100, 7, 8, 2],
    }


def test_a_batch_is_padded_on_the_left_and_keeps_the_columns_that_predict_completions() -> None:
    batch = CompletionCollator(PAD)([TrainingRow([5, 6, 3], [7, 8]).as_features(), TrainingRow([9], [4]).as_features()])
    assert {name: tensor.tolist() for name, tensor in batch.items()} == {
        "input_ids": [[5, 6, 3, 7, 8], [0, 0, 0, 9, 4]],
        "attention_mask": [[1, 1, 1, 1, 1], [0, 0, 0, 1, 1]],
        "position_ids": [[0, 1, 2, 3, 4], [0, 0, 0, 0, 1]],
        "labels": [[-100, 7, 8], [-100, -100, 4]],
        "logits_to_keep": [2, 3],
    }


def scale_logits(trainer: SummaryTrainer) -> None:
    """Say that the model changes its logits, so that it has to compute them itself (a Llama never changes them)."""
    trainer.model.get_base_model().config.logit_scale = 1.0


@pytest.mark.parametrize("scaled", [False, True])
def test_the_loss_of_a_batch_is_that_of_its_rows_one_by_one(
    scaled: bool, load: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    trainer = make_trainer(load(), tmp_path)
    one_by_one = [row_losses(trainer.model.eval(), row) for row in rows()]
    assert [len(losses) for losses in one_by_one] == [completion for _, completion in LENGTHS]
    if scaled:
        scale_logits(trainer)
    training = trainer.compute_loss(trainer.model.train(), CompletionCollator(PAD)(rows()))
    torch.testing.assert_close(training, torch.cat(one_by_one).mean())
    evaluation = trainer.compute_loss(trainer.model.eval(), CompletionCollator(PAD)(rows()))
    torch.testing.assert_close(evaluation, torch.stack([losses.mean() for losses in one_by_one]).mean())


def test_a_model_that_computes_its_logits_itself_has_the_same_gradients(
    load: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    trainer = make_trainer(load(), tmp_path)
    expected = gradients(trainer, rows())
    assert all(gradient.any() for gradient in expected)
    scale_logits(trainer)
    torch.testing.assert_close(gradients(trainer, rows()), expected)


def test_no_logits_are_computed_for_prompts(
    load: Callable[..., PreTrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trainer = make_trainer(load(), tmp_path)
    shapes = []

    def watch(hidden: torch.Tensor, labels: torch.Tensor, weight: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(hidden.shape))
        return token_losses(hidden, labels, weight)

    monkeypatch.setattr("stages.common.trainer.token_losses", watch)
    head = trainer.model.get_output_embeddings()
    head.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    trainer.compute_loss(trainer.model.train(), CompletionCollator(PAD)(rows()))
    # The completions' 42 tokens; where the model computes its logits itself, the columns that hold them.
    assert shapes == [(42, 64)]
    scale_logits(trainer)
    trainer.compute_loss(trainer.model.train(), CompletionCollator(PAD)(rows()))
    assert shapes == [(42, 64), (8, 12, 1024)]


@pytest.mark.parametrize(("batch_size", "accumulation"), [(1, 8), (2, 4)])
def test_accumulated_batches_teach_what_one_batch_does(
    batch_size: int, accumulation: int, load: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    whole_trainer, whole = train_one_step(load(), tmp_path / "whole", batch_size=8)
    trainer, parts = train_one_step(
        load(), tmp_path / "parts", batch_size=batch_size, gradient_accumulation_steps=accumulation
    )
    expected = torch.cat([row_losses(make_trainer(load(), tmp_path).model.eval(), row) for row in rows()]).mean()
    for each in (whole_trainer, trainer):
        assert each.state.log_history[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)
    assert len(whole.gradients) == 28
    torch.testing.assert_close(parts.gradients, whole.gradients, rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(
        dict(trainer.model.named_parameters()), dict(whole_trainer.model.named_parameters()), rtol=1e-4, atol=1e-5
    )


def test_recomputing_activations_changes_no_gradient(load: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
    _, kept = train_one_step(load(), tmp_path, batch_size=8, gradient_checkpointing="never")
    _, recomputed = train_one_step(load(), tmp_path, batch_size=8, gradient_checkpointing="always")
    assert (kept.recomputed, recomputed.recomputed) == (False, True)
    assert len(kept.gradients) == 28
    torch.testing.assert_close(recomputed.gradients, kept.gradients)


def test_evaluation_does_not_depend_on_the_batch_size(load: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
    losses = [
        make_trainer(load(), tmp_path, batch_size=batch_size).evaluate()["eval_loss"] for batch_size in (1, 2, 3, 5)
    ]
    assert losses == pytest.approx([losses[0]] * 4, rel=1e-5)


def test_an_evaluation_between_two_steps_changes_no_gradient_of_the_4_bit_model(
    load: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    def preview(step: int) -> dict[str, float]:
        trainer.model.generate(input_ids=torch.tensor([rows()[0]["input_ids"]]), max_new_tokens=3, do_sample=False)
        return {}

    trainer = make_trainer(load(nf4=True), tmp_path, preview=preview)
    before = gradients(trainer, rows())
    trainer.evaluate()
    after = gradients(trainer, rows())
    assert len(before) == 28
    assert all(gradient.any() for gradient in before)
    assert all(map(torch.equal, before, after))


def test_an_evaluation_logs_the_preview_at_its_step(load: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
    trainer = make_trainer(
        load(), tmp_path, preview=lambda step: {"rouge1": float(step), "final": 1.5}, epochs=1.0, eval_steps=1
    )
    trainer.train()
    scores = [(logs["step"], logs["eval_rouge1"]) for logs in trainer.state.log_history if "eval_rouge1" in logs]
    assert scores == [(1, 1.0), (2, 2.0)]
    assert trainer.evaluate()["eval_final"] == 1.5


def test_training_that_starts_with_a_loss_that_is_no_number_stops(
    load: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    trainer = make_trainer(load(), tmp_path, learning_rate=0.5)
    with torch.no_grad():
        next(weight for weight in trainer.model.parameters() if weight.requires_grad).fill_(float("nan"))
    with pytest.raises(UserError) as error:
        trainer.evaluate()
    assert str(error.value) == (
        "params.yaml: train.learning_rate = 0.5: at the first evaluation, after step 0, the loss is no number; lower it"
    )
    # An earlier evaluation has left weights worth keeping.
    trainer.state.best_global_step = 12
    assert math.isnan(trainer.evaluate()["eval_loss"])
