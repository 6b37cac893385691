"""What a training logs through DVCLive."""

from __future__ import annotations

import resource
import time
from typing import Any

import torch
from dvclive import Live
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

METRICS = {
    "loss": "train/loss",
    "grad_norm": "train/grad_norm",
    "learning_rate": "train/learning_rate",
    "eval_loss": "eval/loss",
    "eval_rouge1": "eval/rouge1",
    "eval_rouge2": "eval/rouge2",
    "eval_rougeL": "eval/rougeL",
    "eval_final": "eval/final",
}
"""What is kept of the trainer's log, and its name in DVCLive; run times never repeat and stay out."""


class TrackWithLive(TrainerCallback):  # type: ignore[misc]
    """Writes loss and ROUGE to DVCLive at the trainer's own step, what a resumed training logged before included."""

    def __init__(self, live: Live) -> None:
        self.live = live

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        for logs in state.log_history:
            self._log(logs, logs["step"])

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **kwargs: Any,
    ) -> None:
        self._log(logs, state.global_step)

    def _log(self, logs: dict[str, float], step: int) -> None:
        self.live.step = step
        for key, name in METRICS.items():
            if key in logs:
                self.live.log_metric(name, logs[key])
        self.live.make_summary()


class Speedometer(TrainerCallback):  # type: ignore[misc]
    """Times the training steps, evaluations and checkpoints left out."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.steps = 0
        self.tokens_before = 0
        self._began = 0.0

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self.tokens_before = state.num_input_tokens_seen

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *args: Any, **kwargs: Any) -> None:
        self.seconds += time.perf_counter() - self._began
        self.steps += 1

    def report(self, tokens: int) -> dict[str, float]:
        """Speed since training began or went on, at least one step ago.

        Args:
            tokens: all that were ever seen: prompt and completion, no padding.

        Returns:
            Tokens a second, seconds a step, and peak memory in GiB (of the GPU; of the process without one).
        """
        if torch.cuda.is_available():
            peak = torch.cuda.max_memory_allocated()
        else:
            # Linux counts in KiB.
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        return {
            "tokens_per_second": round((tokens - self.tokens_before) / self.seconds, 1),
            "seconds_per_step": round(self.seconds / self.steps, 3),
            "peak_memory_gib": round(peak / 2**30, 2),
        }
