from __future__ import annotations

from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.amount import count_of
from stages.core.params import Train, load_params
from stages.training.schedule import Schedule, duration, ending_at, expected_seconds, make_schedule
from tests.tiny_project import ROOT


@cache
def defaults() -> Train:
    return load_params(ROOT / "params.yaml").train


def settings(**changes: object) -> Train:
    return defaults().model_copy(update=changes)


@pytest.mark.parametrize(
    ("rows", "batch_size", "steps", "eval_steps", "evaluations"),
    [(80, 4, 40, 10, 4), (2_000, 16, 250, 63, 4), (12_457, 16, 1_558, 390, 4), (125_000, 32, 7_814, 1_954, 4)],
)
def test_the_schedule_scales_with_the_rows(
    rows: int, batch_size: int, steps: int, eval_steps: int, evaluations: int
) -> None:
    """Two epochs, evaluated twice each, however many rows there are; an epoch without a gain ends training."""
    train = settings(batch_size=batch_size, epochs=2, eval_steps="50%", early_stopping_patience="100%")
    schedule = make_schedule(rows, train)
    assert schedule == Schedule(rows, 2, batch_size, steps, eval_steps, patience=2)
    assert schedule.evaluations == evaluations


def test_counts_are_taken_as_they_are() -> None:
    train = settings(batch_size=4, epochs=2, eval_steps=21, early_stopping_patience=3)
    assert make_schedule(12_457, train) == Schedule(12_457, 2, 4, 6_230, 21, 3)
    assert make_schedule(12_457, train).evaluations == 297


def test_no_patience_never_stops_early() -> None:
    assert make_schedule(80, settings(early_stopping_patience=0)).patience == 0
    assert make_schedule(80, settings(early_stopping_patience="0%")).patience == 0
    assert "none stops it early" in make_schedule(80, settings(early_stopping_patience=0)).describe(1, 1)


@given(st.integers(1, 10**6), st.integers(1, 512), st.floats(0.01, 10), st.floats(0, 300), st.floats(0.001, 1000))
def test_any_schedule_evaluates_at_least_once(
    rows: int, batch_size: int, epochs: float, share: float, patience: float
) -> None:
    schedule = make_schedule(
        rows,
        settings(
            batch_size=batch_size, epochs=epochs, eval_steps=f"{share:.3f}%", early_stopping_patience=f"{patience:.3f}%"
        ),
    )
    assert schedule.steps >= 1
    assert schedule.eval_steps >= 1
    assert 1 <= schedule.evaluations <= schedule.steps
    assert (
        (schedule.evaluations - 1) * schedule.eval_steps < schedule.steps <= schedule.evaluations * schedule.eval_steps
    )


def test_one_line_says_what_follows() -> None:
    schedule = make_schedule(
        12_457, settings(batch_size=16, epochs=2, eval_steps="50%", early_stopping_patience="100%")
    )
    assert schedule.describe(5_460, 21 * 2**30) == (
        "Training: 12,457 rows in batches of 16, 2 epochs: 1,558 steps, evaluated and saved every 390 "
        "(4 times; stops after 2 without a better loss); about 1 h 31 min and 21.0 GiB"
    )


def test_the_time_is_that_of_steps_and_evaluations() -> None:
    schedule = Schedule(rows=100, epochs=2, batch_size=10, steps=20, eval_steps=5, patience=0)
    assert expected_seconds(schedule, tokens=30_000, dev_tokens=3_000, tokens_per_second=1_000) == 60 + 4
    assert expected_seconds(schedule, 30_000, 3_000, 1_000, preview_seconds=5) == 60 + 4 + 20
    # Without dev there is nothing to evaluate, and training ends where it is told to.
    assert expected_seconds(ending_at(schedule, 0.5), 30_000, 0, 1_000) == 30


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.6, "1 min 0 s"), (599, "9 min 59 s"), (600, "10 min"), (3_599, "60 min")]
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


@given(st.integers(0, 10**6), st.floats(0, 100))
def test_a_share_is_of_what_there_is(whole: int, percent: float) -> None:
    count = count_of(f"{percent:.4f}%", whole)
    assert 0 <= count <= whole
    assert count >= 1 or not whole or round(percent, 4) == 0
