"""Supervised fine-tuning on summaries: the loss is taken over the completion's tokens alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch.nn.functional import cross_entropy
from trl import SFTTrainer

from stages.common.errors import UserError
from stages.common.loss import token_losses

SCALED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "output_multiplier", "lm_head_multiplier")
"""Settings by which a model changes its logits after the output embedding; such a model computes them itself."""

IGNORED = -100
"""The label of a token that no loss is taken over."""


@dataclass(frozen=True)
class TrainingRow:
    """One training example: the prompt's ids and those of the completion, its stop token included."""

    prompt_ids: list[int]
    completion_ids: list[int]

    def as_features(self) -> dict[str, list[int]]:
        return {
            "input_ids": self.prompt_ids + self.completion_ids,
            "labels": [IGNORED] * len(self.prompt_ids) + self.completion_ids,
        }


@dataclass(frozen=True)
class CompletionCollator:
    """Pads rows on the left, so that their completions end together and share the last columns.

    Only those columns are worth logits: `logits_to_keep` names the positions that predict them.
    """

    pad_id: int

    def __call__(self, rows: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
        """Rows of `input_ids` and `labels` of any lengths.

        Returns:
            `input_ids`, `attention_mask`, `position_ids` (batch x width), `labels` (batch x (1 + kept)) and
            `logits_to_keep` (kept). The trainer counts labels as if they were not shifted: their first column is
            a prompt's, ignored in every row, and the positions kept predict the others.
        """
        width = max(len(row["input_ids"]) for row in rows)
        kept = max(sum(label != IGNORED for label in row["labels"]) for row in rows)
        input_ids = torch.tensor([_pad(row["input_ids"], self.pad_id, width) for row in rows])
        mask = torch.tensor([_pad([1] * len(row["input_ids"]), 0, width) for row in rows])
        labels = torch.tensor([_pad(row["labels"], IGNORED, width)[-kept - 1 :] for row in rows])
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "position_ids": (mask.cumsum(dim=1) - 1).clamp(min=0),
            "labels": labels,
            "logits_to_keep": torch.arange(width - kept - 1, width - 1),
        }


def _pad(values: list[int], filler: int, width: int) -> list[int]:
    return [filler] * (width - len(values)) + values


class SummaryTrainer(SFTTrainer):  # type: ignore[misc]
    """TRL's trainer with a loss that never computes logits for prompt tokens, and ROUGE at each evaluation.

    `preview(step)` generates summaries of fixed dev samples and returns their scores, to be logged with the loss.

    Raises:
        UserError: at the first evaluation the loss is no number.
    """

    def __init__(self, *args: Any, preview: Callable[[int], dict[str, float]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # TRL makes the adapters of a quantised base bfloat16, whose steps are too coarse for late, small updates;
        # a resumed training would load them as float32 and so take another course.
        for parameter in self.model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
        self._preview = preview

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Cross-entropy over labelled positions.

        Training: the mean over all tokens of the step, whatever its micro-batches. Evaluation: the mean over rows
        of each row's mean, which does not depend on how rows fall into batches.
        """
        labels = inputs.pop("labels")[:, 1:]
        labelled = labels != IGNORED
        losses = self._losses(model, inputs, labels, labelled)
        if not model.training:
            rows = labelled.nonzero()[:, 0]
            return (losses.new_zeros(len(labels)).index_add(0, rows, losses) / labelled.sum(dim=1)).mean()
        return losses.sum() / (labelled.sum() if num_items_in_batch is None else num_items_in_batch)

    def _losses(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        labels: torch.Tensor,
        labelled: torch.Tensor,
    ) -> torch.Tensor:
        """The loss of each labelled position, in row order."""
        base = self.model.get_base_model()
        head = base.get_output_embeddings()
        scaled = head.bias is not None or any(getattr(base.config, name, None) for name in SCALED_LOGITS)
        # Across processes the gradients meet in the wrapped model's own forward pass.
        if scaled or self.accelerator.num_processes > 1:
            logits = model(**inputs, use_cache=False).logits[labelled].float()
            return cross_entropy(logits, labels[labelled], reduction="none")
        positions = inputs.pop("logits_to_keep")
        hidden = base.base_model(**inputs, use_cache=False).last_hidden_state[:, positions]
        return token_losses(hidden[labelled], labels[labelled], head.weight)

    def _send_telemetry(self) -> None:
        """TRL would tell the Hub of each training; nothing leaves this machine unasked."""

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        metrics: dict[str, float] = super().evaluate(*args, **kwargs)
        if self.state.best_global_step is None and not math.isfinite(metrics["eval_loss"]):
            raise UserError(
                f"params.yaml: train.learning_rate = {self.args.learning_rate:g}: at the first evaluation, after step "
                f"{self.state.global_step}, the loss is no number; lower it"
            )
        scores = {f"eval_{name}": score for name, score in self._preview(self.state.global_step).items()}
        if scores:
            self.log(dict(scores))
        return metrics | scores
