from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from accelerate.state import AcceleratorState
from peft import LoraConfig, PeftModel
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, TrainerCallback, set_seed

from stages.core.errors import UserError
from stages.core.params import Params, Quantization, load_params
from stages.layers.chunked_loss import token_losses
from stages.layers.fused_layer import FusedLayer, refresh
from stages.layers.lora_linear import use_lora_linear
from stages.layers.packed_attention import PACKED, PADDED, use_attention
from stages.layers.packed_rows import TrainingRow, pack
from stages.models.load import load_base
from stages.training.memory_plan import MemoryPlan, trainable
from stages.training.objectives import CROSS_ENTROPY, TrainingObjective
from stages.training.trainer import SummaryTrainer, as_dataset
from stages.training.trl_settings import sft_config
from tests.tiny_project import ROOT

LENGTHS = [(3, 5), (11, 2), (1, 1), (7, 9), (20, 4), (2, 12), (9, 3), (5, 6)]
"""Tokens of the prompt and of the completion, row by row."""


def rows(lengths: list[tuple[int, int]] = LENGTHS) -> list[TrainingRow]:
    """Rows of random tokens, those of special meaning left out."""
    generator = torch.Generator().manual_seed(0)

    def tokens(n: int) -> list[int]:
        ids: list[int] = torch.randint(3, 1024, (n,), generator=generator).tolist()
        return ids

    return [TrainingRow(tokens(prompt), tokens(completion)) for prompt, completion in lengths]


def params(**train: Any) -> Params:
    """The repository's parameters, with other values in section train."""
    values = load_params(ROOT / "params.yaml")
    return values.model_copy(update={"train": values.train.model_copy(update=train)})


@pytest.fixture(scope="module")
def load(tiny_manifest: Path) -> Callable[..., PreTrainedModel]:
    """Load the tiny model: in float32 for exact comparisons, or in NF4 as it is trained."""

    def load(*, nf4: bool = False) -> PreTrainedModel:
        quantization = Quantization(
            load_in_4bit=nf4,
            type="nf4",
            double_quant=True,
            compute_dtype="bfloat16" if nf4 else "float32",
            compute="bf16",
        )
        return load_base(tiny_manifest, quantization)

    return load


def make_trainer(
    model: PreTrainedModel,
    folder: Path,
    *,
    preview: Callable[[int], dict[str, float]] = lambda step: {},
    callbacks: list[TrainerCallback] | None = None,
    plan: MemoryPlan | None = None,
    lora_plus_ratio: float = 1.0,
    lora: dict[str, Any] | None = None,
    objective: TrainingObjective = CROSS_ENTROPY,
    **train: Any,
) -> SummaryTrainer:
    """A trainer with the stage's own settings, whose adapter already does something."""
    set_seed(1)
    settings = {"r": 4, "target_modules": "all-linear", "task_type": "CAUSAL_LM", "init_lora_weights": False}
    trainer = SummaryTrainer(
        model=model,
        args=sft_config(params(**train), folder, int(train.get("eval_steps", 21)), torch.float32),
        train_dataset=as_dataset(rows()),
        eval_dataset=as_dataset(rows()[:5]),
        peft_config=use_lora_linear(LoraConfig(**settings | (lora or {}))),
        preview=preview,
        objective=objective,
        callbacks=callbacks,
        lora_plus_ratio=lora_plus_ratio,
    )
    trainer.use(plan or MemoryPlan(1000, 0))
    return trainer


class OneStep(TrainerCallback):  # type: ignore[misc]
    """Stops training after its first step; keeps the adapter's gradients, and whether activations were recomputed."""

    def __init__(self) -> None:
        self.gradients: dict[str, torch.Tensor] = {}
        self.recomputed = 0

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: PeftModel, **kwargs: Any) -> None:
        named = model.named_parameters()
        self.gradients = {name: weight.grad.clone() for name, weight in named if weight.grad is not None}
        layers = model.get_base_model().base_model.layers
        self.recomputed = sum(layer.gradient_checkpointing for layer in layers)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        control.should_training_stop = True


def train_one_step(model: PreTrainedModel, folder: Path, **train: Any) -> tuple[SummaryTrainer, OneStep]:
    """A step over all rows at the full learning rate, with gradients that are not scaled down."""
    step = OneStep()
    trainer = make_trainer(model, folder, callbacks=[step], max_grad_norm=1e9, warmup_ratio=0.0, **train)
    trainer.train()
    return trainer, step


def gradients(trainer: SummaryTrainer, batch: Sequence[Any]) -> list[torch.Tensor]:
    trainer.model.zero_grad()
    trainer.training_step(trainer.model, {"rows": list(batch)})
    return [weight.grad.clone() for weight in trainer.model.parameters() if weight.requires_grad]


def row_losses(model: PeftModel, row: TrainingRow) -> torch.Tensor:
    """The loss of each completion token of a row that stands alone: no padding, all logits."""
    use_attention(model.get_base_model(), PADDED)
    with torch.no_grad():
        logits = model(input_ids=torch.tensor([row.input_ids])).logits[0].float()
    use_attention(model.get_base_model(), PACKED)
    return cross_entropy(logits[len(row.prompt_ids) - 1 : -1], torch.tensor(row.completion_ids), reduction="none")


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
    training = trainer.training_step(trainer.model, {"rows": rows()})
    torch.testing.assert_close(training, torch.cat(one_by_one).mean())
    whole = pack(rows())
    torch.testing.assert_close(trainer.losses(whole).detach(), torch.cat(one_by_one))
    trainer.eval_dataset = as_dataset(rows())
    evaluation = trainer.evaluate()["eval_loss"]
    assert evaluation == pytest.approx(torch.stack([losses.mean() for losses in one_by_one]).mean().item(), rel=1e-5)


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

    def watch(hidden: torch.Tensor, *others: Any) -> torch.Tensor:
        shapes.append(tuple(hidden.shape))
        return token_losses(hidden, *others)

    monkeypatch.setattr("stages.training.trainer.token_losses", watch)
    head = trainer.model.get_output_embeddings()
    head.register_forward_hook(lambda module, inputs, output: shapes.append(tuple(output.shape)))
    trainer.losses(pack(rows()))
    # The completions' 42 tokens, also where the model computes its logits itself.
    assert shapes == [(42, 64)]
    scale_logits(trainer)
    trainer.losses(pack(rows()))
    assert shapes == [(42, 64), (1, 42, 1024)]


@pytest.mark.parametrize("nf4", [False, True])
@pytest.mark.parametrize("max_tokens", [1, 24])
def test_micro_batches_teach_what_one_batch_does(
    max_tokens: int, nf4: bool, load: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    whole_trainer, whole = train_one_step(load(nf4=nf4), tmp_path / "whole", batch_size=8)
    trainer, parts = train_one_step(load(nf4=nf4), tmp_path / "parts", batch_size=8, plan=MemoryPlan(max_tokens, 0))
    assert len(whole.gradients) == 28
    rtol, atol = (0.1, 2e-2) if nf4 else (1e-3, 1e-6)
    torch.testing.assert_close(parts.gradients, whole.gradients, rtol=rtol, atol=atol)
    if not nf4:
        expected = torch.cat([row_losses(make_trainer(load(), tmp_path).model.eval(), row) for row in rows()]).mean()
        for each in (whole_trainer, trainer):
            assert each.state.log_history[0]["loss"] == pytest.approx(expected.item(), rel=1e-5)
        torch.testing.assert_close(
            dict(trainer.model.named_parameters()), dict(whole_trainer.model.named_parameters()), rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_recomputing_activations_changes_no_gradient(
    layers: int, dropout: float, load: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    # With dropout, layers are those of transformers; without, they are fused.
    lora = {"lora_dropout": dropout}
    _, kept = train_one_step(load(), tmp_path, batch_size=8, lora=lora)
    _, recomputed = train_one_step(load(), tmp_path, batch_size=8, lora=lora, plan=MemoryPlan(1000, layers))
    assert (kept.recomputed, recomputed.recomputed) == (0, layers)
    assert len(kept.gradients) == 28
    torch.testing.assert_close(recomputed.gradients, kept.gradients)


def test_fused_layers_learn_what_those_of_transformers_do(
    load: Callable[..., PreTrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fused_trainer, fused = train_one_step(load(), tmp_path, batch_size=8)
    monkeypatch.setattr("stages.training.trainer.can_fuse", lambda model: False)
    trainer, plain = train_one_step(load(), tmp_path, batch_size=8)
    assert [isinstance(each.base.base_model.layers[0], FusedLayer) for each in (fused_trainer, trainer)] == [
        True,
        False,
    ]
    torch.testing.assert_close(fused.gradients, plain.gradients, rtol=1e-3, atol=1e-6)


def test_dequantized_weights_teach_what_4_bit_ones_do(load: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
    _, packed = train_one_step(load(nf4=True), tmp_path, batch_size=8)
    _, dense = train_one_step(load(nf4=True).dequantize(), tmp_path, batch_size=8)
    for name, gradient in packed.gradients.items():
        assert torch.nn.functional.cosine_similarity(gradient, dense.gradients[name], dim=0).mean() > 0.99


@pytest.mark.parametrize(
    "lora", [{"use_dora": True}, {"use_rslora": True}, {"rank_pattern": {"q_proj": 8}}, {"target_modules": ["q_proj"]}]
)
def test_kinds_of_adapters(lora: dict[str, Any], load: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
    trainer = make_trainer(load(), tmp_path, lora=lora)
    one_by_one = [row_losses(trainer.model.eval(), row) for row in rows()]
    refresh(trainer.base)
    torch.testing.assert_close(trainer.losses(pack(rows())).detach(), torch.cat(one_by_one), rtol=1e-4, atol=1e-4)
    assert all(gradient.any() for gradient in gradients(trainer, rows()))


def test_neftune_disturbs_what_is_learned_from_and_no_evaluation(
    load: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    quiet, plain = train_one_step(load(), tmp_path / "quiet", learning_rate=0.0)
    noisy, disturbed = train_one_step(load(), tmp_path / "noisy", learning_rate=0.0, neftune_noise_alpha=10.0)
    for name, gradient in plain.gradients.items():
        assert not torch.allclose(disturbed.gradients[name], gradient, rtol=0.01), name
    assert noisy.evaluate()["eval_loss"] == quiet.evaluate()["eval_loss"]


def test_lora_plus_teaches_b_faster(load: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
    trainer = make_trainer(load(), tmp_path, lora_plus_ratio=8.0, learning_rate=1e-4)
    trainer.create_optimizer()
    names = {id(parameter): name for name, parameter in trainer.model.named_parameters()}
    rates = {
        names[id(parameter)].split(".")[-3]: group["lr"]
        for group in trainer.optimizer.param_groups
        for parameter in group["params"]
    }
    assert rates == pytest.approx({"lora_A": 1e-4, "lora_B": 8e-4})


def test_out_of_memory_once_halves_the_micro_batches_and_loses_no_step(
    load: Callable[..., PreTrainedModel],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, whole = train_one_step(load(), tmp_path, batch_size=8)
    calls = []

    def fail_once(hidden: torch.Tensor, *others: Any) -> torch.Tensor:
        calls.append(len(hidden))
        if len(calls) == 2:
            raise torch.OutOfMemoryError
        return token_losses(hidden, *others)

    monkeypatch.setattr("stages.training.trainer.token_losses", fail_once)
    trainer, lowered = train_one_step(load(), tmp_path, batch_size=8, plan=MemoryPlan(60, 0))
    assert trainer.plan == MemoryPlan(30, 2)
    assert [message for message in caplog.messages if message.startswith("Out of GPU memory")] == [
        "Out of GPU memory: going on with micro-batches of up to 30 tokens, all layers recomputed"
    ]
    torch.testing.assert_close(lowered.gradients, whole.gradients, rtol=1e-3, atol=1e-6)
    assert trainer.state.num_input_tokens_seen == sum(map(len, rows()))


def test_evaluation_does_not_depend_on_the_micro_batches(load: Callable[..., PreTrainedModel], tmp_path: Path) -> None:
    losses = [
        make_trainer(load(), tmp_path, plan=MemoryPlan(tokens, 0)).evaluate()["eval_loss"] for tokens in (1, 30, 1000)
    ]
    assert losses == pytest.approx([losses[0]] * 3, rel=1e-5)


def test_an_evaluation_between_two_steps_changes_no_gradient_of_the_4_bit_model(
    load: Callable[..., PreTrainedModel], tmp_path: Path
) -> None:
    def preview(step: int) -> dict[str, float]:
        trainer.model.generate(input_ids=torch.tensor([rows()[0].input_ids]), max_new_tokens=3, do_sample=False)
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


@pytest.mark.parametrize(("dtype", "scaled"), [("float16", True), ("bfloat16", False), ("float32", False)])
def test_losses_are_scaled_in_float16_alone(dtype: str, scaled: bool, tmp_path: Path) -> None:
    settings = sft_config(params(), tmp_path, 1, getattr(torch, dtype))
    assert (settings.fp16, settings.bf16) == (scaled, False)


def test_float16_teaches_what_float32_does_and_a_step_that_overflows_nothing(
    load: Callable[..., PreTrainedModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on a GPU without bfloat16; accelerate scales no losses on a CPU, so it is told to."""
    settings: dict[str, Any] = {
        "learning_rate": 5e-3,
        "epochs": 8,
        "eval_steps": 2,
        "warmup_ratio": 0.0,
        "batch_size": 8,
    }
    exact = make_trainer(load(nf4=True), tmp_path / "exact", **settings)
    exact.train()
    monkeypatch.setattr("stages.models.load.compute_dtype", lambda name, config: torch.float16)
    monkeypatch.setitem(AcceleratorState._shared_state, "_mixed_precision", "fp16")

    def losses(scale: float) -> list[float]:
        model = load(nf4=True)
        assert model.dtype is torch.float16
        trainer = make_trainer(model, tmp_path / "float16", **settings)
        assert {weight.dtype for weight in trainable(trainer.model)} == {torch.float32}
        trainer.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
        trainer.accelerator.native_amp = True
        trainer.train()
        assert all(weight.isfinite().all() for weight in trainable(trainer.model))
        return dev_losses(trainer)

    # At the scale that training begins with on a GPU; 256 times it is too much, until enough steps were skipped.
    assert losses(2.0**16) == pytest.approx(dev_losses(exact), abs=0.02)
    too_much = losses(2.0**24)
    assert too_much[0] == too_much[1] > too_much[-1] + 0.05


def dev_losses(trainer: SummaryTrainer) -> list[float]:
    return [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
