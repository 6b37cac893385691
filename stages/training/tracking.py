"""What a training logs through DVCLive."""

from __future__ import annotations

import logging
import resource
import sys
import time
from typing import Any

import torch
from dvclive import Live
from tqdm import tqdm
from transformers import ProgressCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments

BAR = "{l_bar}{bar}| {n_fmt}/{total_fmt}, {remaining} left{postfix}"
"""A progress bar whose speed and memory still fit into 80 columns."""

SECONDS_IN_A_FILE = 10
"""Between two states of the bar where standard error is no terminal."""

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

logger = logging.getLogger(__name__)


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
    """Times the training steps, evaluations and checkpoints left out.

    A step ends when its loss is logged: only then has a GPU done what it was given. So each step must be logged.

    Args:
        weights: how many the frozen base has.
        matrix_rate: FLOP a second of the device that trains.
    """

    def __init__(self, weights: int, matrix_rate: float) -> None:
        self.weights = weights
        self.matrix_rate = matrix_rate
        self.seconds = 0.0
        self.steps = 0
        self.tokens = 0
        self._tokens_before = 0
        self._began: float | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        self._tokens_before = state.num_input_tokens_seen

    def on_step_begin(self, *args: Any, **kwargs: Any) -> None:
        self._began = time.perf_counter()

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if self._began is None:
            return  # an evaluation's log
        self.seconds += time.perf_counter() - self._began
        self._began = None
        self.steps += 1
        self.tokens = state.num_input_tokens_seen - self._tokens_before

    def report(self) -> dict[str, float]:
        """Speed since training began or went on, at least one step ago.

        Returns:
            Tokens a second, prompt and completion without padding; seconds a step; the matrix rate, and the share of it
            that the tokens need: 4 FLOP a weight and token, 2 in the forward pass and 2 for the gradient of the
            activations, as frozen weights need none; peak memory in GiB.
        """
        speed = self.tokens / self.seconds
        return {
            "tokens_per_second": round(speed, 1),
            "seconds_per_step": round(self.seconds / self.steps, 3),
            "matrix_rate_tflops": round(self.matrix_rate / 1e12, 3),
            "share_of_matrix_rate": round(speed * 4 * self.weights / self.matrix_rate, 3),
            "peak_memory_gib": round(peak_memory() / 2**30, 2),
        }

    def describe(self) -> str:
        """The report as one line."""
        report = self.report()
        return (
            f"{report['tokens_per_second']:.0f} tokens/s, {report['share_of_matrix_rate']:.0%} of the matrix rate, "
            f"{report['peak_memory_gib']:.1f} GiB"
        )


class SpeedBar(ProgressCallback):  # type: ignore[misc]
    """The trainer's progress bar with time left, speed and memory, and above it a line for each evaluation.

    DVCLive has the loss of every step. Add it after its speedometer.
    """

    def __init__(self, speed: Speedometer) -> None:
        super().__init__()
        self.speed = speed

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        # The time left goes by the mean of this process's steps, so that evaluations among them take their share.
        self.training_bar = tqdm(
            total=state.max_steps,
            initial=state.global_step,
            smoothing=0,
            bar_format=BAR,
            dynamic_ncols=True,
            mininterval=0.1 if sys.stderr.isatty() else SECONDS_IN_A_FILE,
        )
        self.current_step = state.global_step

    def close(self) -> None:
        """Let what is said next begin a line of its own."""
        if self.training_bar is not None:
            self.training_bar.close()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, float],
        **kwargs: Any,
    ) -> None:
        if self.speed.steps:
            self.training_bar.set_postfix_str(self.speed.describe(), refresh=False)
        if "eval_loss" in logs:
            trained = [earlier["loss"] for earlier in state.log_history if "loss" in earlier]
            before = f"loss {trained[-1]:.4f}, " if trained else ""
            logger.info("Step %d: %son dev %.4f", state.global_step, before, logs["eval_loss"])


def peak_memory() -> int:
    """The most bytes that were in use: of the GPU, or of the process where there is none."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
