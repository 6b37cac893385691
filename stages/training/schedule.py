"""What follows from rows and settings before the first step: steps, evaluations, and when training gives up."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from stages.core.amount import count_of
from stages.core.params import Train


@dataclass(frozen=True)
class Schedule:
    """The course of a training.

    Attributes:
        rows: training rows.
        epochs: passes over them.
        batch_size: rows in a step.
        steps: in all.
        eval_steps: steps between evaluations, which are also checkpoints.
        patience: evaluations without a better loss before training stops; 0 never stops early.
        last: the step that training ends with, of a schedule made for `steps`, where dev is not asked.
    """

    rows: int
    epochs: float
    batch_size: int
    steps: int
    eval_steps: int
    patience: int
    last: int | None = None

    @property
    def evaluations(self) -> int:
        """How many there are, the one after the last step included.

        >>> Schedule(rows=108, epochs=2, batch_size=4, steps=54, eval_steps=14, patience=2).evaluations
        4
        """
        return math.ceil(self.steps / self.eval_steps)

    def describe(self, seconds: float, memory: int) -> str:
        """One line to read before the first step.

        Args:
            seconds: that training is expected to take.
            memory: bytes that it is expected to take.
        """
        stop = f"stops after {self.patience} without a better loss" if self.patience else "none stops it early"
        course = f"evaluated and saved every {self.eval_steps:,} ({self.evaluations} times; {stop})"
        if self.last is not None:
            course = f"saved every {self.eval_steps:,}, ending with step {self.last:,}"
        return (
            f"Training: {self.rows:,} rows in batches of {self.batch_size}, {self.epochs:g} epochs: "
            f"{self.steps:,} steps, {course}; about {duration(seconds)} and {memory / 2**30:.1f} GiB"
        )


def make_schedule(rows: int, train: Train) -> Schedule:
    """The course that the settings set for so many rows; shares are of an epoch's steps."""
    epoch = math.ceil(rows / train.batch_size)
    eval_steps = max(1, count_of(train.eval_steps, epoch))
    patience = train.early_stopping_patience
    if isinstance(patience, str):
        patience = math.ceil(count_of(patience, epoch) / eval_steps)
    return Schedule(rows, train.epochs, train.batch_size, math.ceil(train.epochs * epoch), eval_steps, patience)


def ending_at(schedule: Schedule, share: float) -> Schedule:
    """The same course without dev, ended after this share of its steps; the learning rate is that of the whole.

    >>> ending_at(Schedule(rows=108, epochs=2, batch_size=4, steps=54, eval_steps=14, patience=2), 0.5).last
    27
    """
    return replace(schedule, patience=0, last=max(1, round(share * schedule.steps)))


def expected_seconds(
    schedule: Schedule, tokens: int, dev_tokens: int, tokens_per_second: float, preview_seconds: float = 0.0
) -> float:
    """How long a training takes: its steps, and evaluations that take a third of a step's time a token, with previews.

    A forward pass takes 2 of the 4 FLOP a weight and token of a step with frozen weights, and keeps nothing.

    Args:
        schedule: its course.
        tokens: of all training rows, prompt and completion.
        dev_tokens: of all dev rows.
        tokens_per_second: in training steps.
        preview_seconds: of the previews of one evaluation.
    """
    trained = schedule.epochs * tokens
    if schedule.last is not None:
        return trained * schedule.last / schedule.steps / tokens_per_second
    return trained / tokens_per_second + schedule.evaluations * (dev_tokens / 3 / tokens_per_second + preview_seconds)


def duration(seconds: float) -> str:
    """A time as one reads it.

    >>> duration(40), duration(100), duration(5400), duration(200_000)
    ('40 s', '1 min 40 s', '1 h 30 min', '55 h 33 min')
    """
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 600:
        return f"{whole // 60} min {whole % 60} s"
    if whole < 3600:
        return f"{round(whole / 60)} min"
    return f"{whole // 3600} h {whole % 3600 // 60} min"
