"""Trains on packed rows, by an objective that takes its loss from them; no logits are computed for prompts."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from peft.optimizers import create_loraplus_optimizer
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers.trainer_utils import EvalLoopOutput
from trl import SFTTrainer

from stages.core.errors import UserError
from stages.layers.chunked_loss import token_losses
from stages.layers.fused_layer import can_fuse, fuse, refresh
from stages.layers.packed_attention import PACKED, use_attention
from stages.layers.packed_rows import Packed, deal, split
from stages.models.families import family_of, fused_families, logit_softcap, reads_packed, scales_logits
from stages.training.gradients import Gradients
from stages.training.graphed_losses import GraphedLosses
from stages.training.memory_plan import MemoryPlan, count_layers, set_recomputed, step_down, trainable
from stages.training.objectives import CROSS_ENTROPY, TokenLosses, TrainingObjective
from stages.training.processes import ALONE, Processes

logger = logging.getLogger(__name__)


def as_dataset(rows: Sequence[Any]) -> Dataset:
    """The rows, which are dataclasses, in the form that the trainer takes."""
    return Dataset.from_list([vars(row) for row in rows])


class SummaryTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer on packed rows, with a loss that never computes logits for prompt tokens.

    A batch is all rows of a step; it is divided into micro-batches of at most `plan.micro_batch_tokens` tokens, whose
    gradients add up to those of the whole, so that memory settings do not change what is learned. `objective` says
    what the loss of packed rows is. `preview(step)` generates summaries of fixed dev samples at each evaluation and
    returns their scores, to be logged with the loss.

    Each of several processes gets all rows, and computes its share of the `lanes` that those of a step are dealt to.
    What follows is the same in all of them; the first alone writes checkpoints and runs `preview`.

    Raises:
        UserError: `fp8` is asked for and the model's layers cannot be fused, at the first evaluation the loss is no
            number, or memory ran out twice.
    """

    def __init__(
        self,
        *args: Any,
        preview: Callable[[int], dict[str, float]],
        objective: TrainingObjective = CROSS_ENTROPY,
        lora_plus_ratio: float = 1.0,
        fp8: bool = False,
        lanes: int = 1,
        processes: Processes = ALONE,
        **kwargs: Any,
    ) -> None:
        # The rows of a step as they are: how they fall into micro-batches is up to the plan.
        super().__init__(*args, data_collator=lambda rows: {"rows": [objective.row(**row) for row in rows]}, **kwargs)
        # TRL makes the adapters of a quantized base bfloat16, whose steps are too coarse for late, small updates;
        # a resumed training would load them as float32 and so take another course.
        for parameter in trainable(self.model):
            parameter.data = parameter.data.float()
        self.base = self.model.get_base_model()
        self.family = family_of(self.base.config)
        self.packs = reads_packed(self.base.config)
        self._attention = PACKED if self.packs else self.family.attention
        use_attention(self.base, self._attention)
        if self.family.fused and self.packs and can_fuse(self.base):
            fuse(self.base, fp8=fp8)
        elif fp8:
            raise UserError(
                f"params.yaml: quantization.compute = 'fp8': not for these adapters on {self.base.config.model_type}; "
                f"set bf16, or take a model of the kinds {', '.join(fused_families())} with plain LoRA on all linear "
                "layers, no dropout"
            )
        self.plan = MemoryPlan(2**31, 0)
        self.objective = objective
        alone = objective is CROSS_ENTROPY and self.packs and lanes == 1  # so that a step may be one micro-batch
        self._graphed = GraphedLosses(self.base, self.losses) if alone else None
        self._preview = preview
        self._lora_plus_ratio = lora_plus_ratio
        self._stepped_down = False
        self.lanes = lanes
        self.processes = processes
        self.gradients = Gradients(trainable(self.model), processes, exact=self.base.device.type == "cpu")

    def use(self, plan: MemoryPlan) -> None:
        """Follow a plan from now on."""
        self.plan = plan
        set_recomputed(self.base, plan.recomputed_layers)

    def probe(self, tokens: int) -> None:
        """Forward and backward of this process on one row of that many tokens; nothing is learned."""
        self.model.train()
        refresh(self.base)
        row = self.objective.example(tokens)
        self._run([row], self.objective.terms(row), self.losses)
        self.model.zero_grad(set_to_none=True)

    def rehearse(self, rows: Sequence[Any]) -> None:
        """Forward and backward of a step on these rows, in all processes; nothing is learned."""
        self.model.train()
        self._backward(rows, self.plan, self._graphed)
        self.model.zero_grad(set_to_none=True)

    def training_step(
        self, model: torch.nn.Module, inputs: dict[str, list[Any]], num_items_in_batch: Any = None
    ) -> Tensor:
        """Add up the gradients of a step's micro-batches; the loss is the mean over all terms of the step."""
        model.train()
        rows = inputs["rows"]
        try:
            loss = self._backward(rows, self.plan, self._graphed)
        except torch.OutOfMemoryError:
            if self._stepped_down or self.gradients.on_their_way:
                raise UserError(
                    f"params.yaml: train.max_tokens_per_batch = {self.plan.micro_batch_tokens}: out of GPU memory with "
                    "all layers recomputed; lower train.memory, prompt.max_tokens or lora.r"
                ) from None
            self._stepped_down = True
            self.use(step_down(self.plan, count_layers(self.base), max(map(len, rows))))
            logger.warning(
                "Out of GPU memory: going on with micro-batches of up to %d tokens, all layers recomputed",
                self.plan.micro_batch_tokens,
            )
            model.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            loss = self._backward(rows, self.plan)
        self.state.num_input_tokens_seen += sum(map(len, rows))
        return loss

    def _backward(self, rows: Sequence[Any], plan: MemoryPlan, graphed: GraphedLosses | None = None) -> Tensor:
        terms = sum(map(self.objective.terms, rows))
        lanes = self._micro_batches(rows, plan)
        losses: TokenLosses = self.losses
        if graphed and len(lanes[0]) == 1 and not plan.recomputed_layers:
            losses = graphed
        else:
            refresh(self.base)
        return self.gradients.add_up(
            [
                [
                    partial(self._run, [rows[row] for row in batch], terms, losses, self._seed(lane, number))
                    for number, batch in enumerate(batches)
                ]
                for lane, batches in enumerate(lanes)
            ]
        )

    def _run(self, rows: Sequence[Any], terms: int, losses: TokenLosses, seed: int | None = None) -> Tensor:
        """Forward and backward on a micro-batch of a step with so many terms; its part of the loss."""
        with _drawing_from(seed):
            part = self._terms_of(rows, losses).sum() / terms
            self.accelerator.backward(part)
        return part.detach()

    def _seed(self, lane: int, number: int) -> int | None:
        """What a micro-batch draws its dropout from, whichever process it is in; with one lane, from what is left."""
        if self.lanes == 1:
            return None
        sequence = np.random.SeedSequence([self.args.seed, self.state.global_step, lane, number])
        return int(sequence.generate_state(1, np.uint64)[0])

    def _micro_batches(self, rows: Sequence[Any], plan: MemoryPlan) -> list[list[list[int]]]:
        """For each lane its micro-batches, as positions of rows."""
        lengths = [len(row) for row in rows]
        lanes = [sorted(lane) for lane in deal(lengths, self.lanes)]
        if not self.packs:
            return [[[row] for row in lane] for lane in lanes]
        return [
            [[lane[row] for row in batch] for batch in split([lengths[row] for row in lane], plan.micro_batch_tokens)]
            for lane in lanes
        ]

    def _terms_of(self, rows: Sequence[Any], losses: TokenLosses) -> Tensor:
        return self.objective.losses(self.objective.pack(rows, self.base.device), losses)

    def losses(self, packed: Packed) -> Tensor:
        """The cross-entropy of each predicted token, K; of a model that reads no packed rows there is one row."""
        inputs = packed.inputs if self.packs else _only_row(packed)
        head = self.base.get_output_embeddings()
        scaled = head.bias is not None or scales_logits(self.base.config)
        if scaled:
            logits = self.base(**inputs, use_cache=False, logits_to_keep=packed.positions).logits[0].float()
            return cross_entropy(logits, packed.targets, reduction="none")
        hidden = self.base.base_model(**inputs, use_cache=False).last_hidden_state[0]
        return token_losses(hidden[packed.positions], packed.targets, head.weight, logit_softcap(self.base.config))

    def evaluation_loop(
        self,
        dataloader: Any,
        description: str,
        prediction_loss_only: bool | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> EvalLoopOutput:
        """The mean over rows of each row's mean loss, which does not depend on how rows fall into batches."""
        self.model.eval()
        refresh(self.base)
        rows = [row for batch in dataloader for row in batch["rows"]]
        means = torch.zeros(len(rows))
        with torch.no_grad():
            lanes = self._micro_batches(rows, self.plan)
            for batch in (batch for lane in lanes[self.processes.share(self.lanes)] for batch in lane):
                losses = self._terms_of([rows[row] for row in batch], self.losses).float()
                counts = torch.tensor([self.objective.terms(rows[row]) for row in batch], device=losses.device)
                owners = torch.arange(len(batch), device=losses.device).repeat_interleave(counts)
                means[batch] = (losses.new_zeros(len(batch)).index_add(0, owners, losses) / counts).cpu()
        self.processes.add(means)
        metrics = {f"{metric_key_prefix}_loss": means.mean().item()}
        return EvalLoopOutput(predictions=None, label_ids=None, metrics=metrics, num_samples=len(rows))

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Evaluate on dev and preview."""
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        if self.state.best_global_step is None and not math.isfinite(metrics["eval_loss"]):
            raise UserError(
                f"params.yaml: train.learning_rate = {self.args.learning_rate:g}: at the first evaluation, after step "
                f"{self.state.global_step}, the loss is no number; lower it"
            )
        with self.generating():
            previewed = self.processes.from_first(lambda: self._preview(self.state.global_step))
        scores = {f"eval_{name}": score for name, score in previewed.items()}
        if scores:
            self.log(dict(scores))
        return metrics | scores

    @contextmanager
    def generating(self) -> Iterator[None]:
        """Have the model read rows as `generate` gives them, padded and not packed."""
        use_attention(self.base, self.family.attention)
        yield
        use_attention(self.base, self._attention)

    def create_optimizer(self, *args: Any, **kwargs: Any) -> torch.optim.Optimizer:
        """The optimizer of the settings; with LoRA+ (https://arxiv.org/abs/2402.12354), B learns faster than A."""
        if self._lora_plus_ratio == 1:
            plain: torch.optim.Optimizer = super().create_optimizer(*args, **kwargs)
            return plain
        kind, settings = self.get_optimizer_cls_and_kwargs(self.args, self.model)
        optimizer: torch.optim.Optimizer = create_loraplus_optimizer(
            self.model,
            optimizer_cls=kind,
            loraplus_lr_ratio=self._lora_plus_ratio,
            loraplus_weight_decay=self.args.weight_decay,
            **settings,
        )
        self.optimizer = optimizer
        return optimizer

    def _save_checkpoint(self, *args: Any, **kwargs: Any) -> None:
        """What the first process saves serves all, as their random states are the same."""
        if self.processes.first:
            super()._save_checkpoint(*args, **kwargs)

    def _load_best_model(self) -> None:
        """For the first process, which writes the adapter."""
        if self.processes.first:
            super()._load_best_model()

    def floating_point_ops(self, inputs: dict[str, Any]) -> int:
        """Not counted; see the tokens a second."""
        return 0

    def _send_telemetry(self) -> None:
        """TRL would tell the Hub of each training; nothing leaves this machine unasked."""


@contextmanager
def random_state_kept() -> Iterator[None]:
    """Let what is drawn inside leave no trace."""
    with torch.random.fork_rng([torch.cuda.current_device()] if torch.cuda.is_available() else []):
        yield


@contextmanager
def _drawing_from(seed: int | None) -> Iterator[None]:
    if seed is None:
        yield
        return
    with random_state_kept():
        torch.manual_seed(seed)
        yield


def _only_row(packed: Packed) -> dict[str, Tensor | int]:
    """What a model reads of a row that stands alone.

    Raises:
        ValueError: there are several.
    """
    if len(torch.as_tensor(packed.inputs["cu_seq_lens_q"])) != 2:
        raise ValueError("this model reads rows one by one")
    return {"input_ids": packed.inputs["input_ids"]}
