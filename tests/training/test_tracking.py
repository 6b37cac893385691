from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from dvclive import Live
from transformers import TrainerControl, TrainerState, TrainingArguments

from stages.training import tracking
from stages.training.tracking import SpeedBar, Speedometer, TrackWithLive

LOG = [
    {"loss": 3.0, "grad_norm": 0.5, "learning_rate": 0.001, "epoch": 0.5, "train_runtime": 12.5, "step": 1},
    {"loss": 2.0, "grad_norm": 0.25, "learning_rate": 0.0005, "epoch": 1.0, "step": 2},
    {"eval_loss": 2.5, "eval_runtime": 3.2, "eval_samples_per_second": 5.0, "step": 2},
    {"eval_rouge1": 20.0, "eval_rouge2": 10.0, "eval_rougeL": 15.0, "eval_final": 15.0, "step": 2},
    {"loss": 1.0, "grad_norm": 0.125, "learning_rate": 0.0, "epoch": 1.5, "step": 3},
    {"train_runtime": 99.0, "train_loss": 2.0, "total_flos": 1e9, "step": 3},
]
"""What a trainer logs in three steps, with an evaluation at the second."""


@pytest.fixture
def arguments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrainingArguments:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "-q"], check=True)
    author = ["-c", "user.name=tester", "-c", "user.email=tester@example.com"]
    subprocess.run(["git", *author, "commit", "-q", "--allow-empty", "-m", "start"], check=True)
    return TrainingArguments("run")


def track(arguments: TrainingArguments, folder: str, *, resumed_after: int = 0) -> dict[str, str]:
    """Log all of LOG, the first entries as what an interrupted training had logged; all files that this writes."""
    control = TrainerControl()
    with Live(folder, dvcyaml=False, save_dvc_exp=False) as live:
        callback = TrackWithLive(live)
        state = TrainerState(log_history=[dict(logs) for logs in LOG[:resumed_after]])
        callback.on_train_begin(arguments, state, control)
        for logs in LOG[resumed_after:]:
            state.global_step = int(logs["step"])
            callback.on_log(arguments, state, control, logs={k: v for k, v in logs.items() if k != "step"})
    files = [path for path in Path(folder).rglob("*") if path.is_file()]
    return {str(path.relative_to(folder)): path.read_text(encoding="utf-8") for path in files}


def test_metrics_are_written_at_the_step_of_the_trainer(arguments: TrainingArguments) -> None:
    files = track(arguments, "logs")
    assert json.loads(files.pop("metrics.json")) == {
        "train": {"loss": 1.0, "grad_norm": 0.125, "learning_rate": 0.0},
        "eval": {"loss": 2.5, "rouge1": 20.0, "rouge2": 10.0, "rougeL": 15.0, "final": 15.0},
        "step": 3,
    }
    assert files == {
        "plots/metrics/train/loss.tsv": "step\tloss\n1\t3.0\n2\t2.0\n3\t1.0\n",
        "plots/metrics/train/grad_norm.tsv": "step\tgrad_norm\n1\t0.5\n2\t0.25\n3\t0.125\n",
        "plots/metrics/train/learning_rate.tsv": "step\tlearning_rate\n1\t0.001\n2\t0.0005\n3\t0.0\n",
        "plots/metrics/eval/loss.tsv": "step\tloss\n2\t2.5\n",
        "plots/metrics/eval/rouge1.tsv": "step\trouge1\n2\t20.0\n",
        "plots/metrics/eval/rouge2.tsv": "step\trouge2\n2\t10.0\n",
        "plots/metrics/eval/rougeL.tsv": "step\trougeL\n2\t15.0\n",
        "plots/metrics/eval/final.tsv": "step\tfinal\n2\t15.0\n",
    }


@pytest.mark.parametrize("resumed_after", [1, 4, 6])
def test_a_resumed_training_writes_what_an_uninterrupted_one_does(
    resumed_after: int, arguments: TrainingArguments
) -> None:
    assert track(arguments, "resumed", resumed_after=resumed_after) == track(arguments, "whole")


@pytest.fixture
def speed(arguments: TrainingArguments, monkeypatch: pytest.MonkeyPatch) -> Speedometer:
    """After the first two steps of a training that went on, one of 2 seconds and one of 3."""
    # Between them 6 seconds go by, an evaluation within them.
    monkeypatch.setattr(time, "perf_counter", iter([0.0, 2.0, 8.0, 11.0]).__next__)
    monkeypatch.setattr(tracking, "peak_memory", lambda: 13 * 2**29)
    speed = Speedometer(weights=2_000_000, matrix_rate=1e9)
    state, control = TrainerState(num_input_tokens_seen=500), TrainerControl()
    speed.on_train_begin(arguments, state, control)
    for tokens in (120, 80):
        speed.on_step_begin(arguments, state, control)
        state.num_input_tokens_seen += tokens
        speed.on_step_end(arguments, state, control)
        speed.on_log(arguments, state, control, logs={"loss": 3.0})
        speed.on_log(arguments, state, control, logs={"eval_loss": 2.5})
    return speed


def test_speed_is_that_of_the_steps_since_training_went_on(speed: Speedometer) -> None:
    assert speed.steps == 2
    assert speed.report() == {
        "tokens_per_second": 40.0,
        "seconds_per_step": 2.5,
        "matrix_rate_tflops": 0.001,
        "share_of_matrix_rate": 0.32,
        "peak_memory_gib": 6.5,
    }


def test_the_peak_is_that_of_the_process() -> None:
    assert 0.05 < tracking.peak_memory() / 2**30 < 100


def test_macos_counts_the_peak_in_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    usage = SimpleNamespace(ru_maxrss=3 * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(resource, "getrusage", lambda who: usage)
    monkeypatch.setattr(sys, "platform", "darwin")
    assert tracking.peak_memory() == 3 * 2**30


def test_the_bar_shows_time_left_speed_and_memory(
    speed: Speedometer, arguments: TrainingArguments, capsys: pytest.CaptureFixture[str]
) -> None:
    bar, state, control = SpeedBar(speed), TrainerState(max_steps=50, global_step=8), TrainerControl()
    bar.on_train_begin(arguments, state, control)
    assert str(bar.training_bar) == " 16%|█▌        | 8/50, ? left"
    bar.training_bar.start_t -= 60
    state.global_step = 10
    bar.on_step_end(arguments, state, control)
    bar.on_log(arguments, state, control, logs={"loss": 3.0})
    # 2 steps took a minute, so 40 take 20.
    line = " 20%|██        | 10/50, 20:00 left, 40 tokens/s, 32% of the matrix rate, 6.5 GiB"
    assert str(bar.training_bar) == line
    bar.on_train_end(arguments, state, control)
    written = capsys.readouterr()
    assert line in written.err
    assert written.out == ""


def test_a_line_for_each_evaluation_and_none_for_a_step(
    speed: Speedometer, arguments: TrainingArguments, caplog: pytest.LogCaptureFixture
) -> None:
    bar, state, control = SpeedBar(speed), TrainerState(max_steps=4), TrainerControl()
    bar.on_train_begin(arguments, state, control)
    with caplog.at_level("INFO"):
        for logs in LOG:
            state.global_step = int(logs["step"])
            state.log_history.append(dict(logs))
            bar.on_log(arguments, state, control, logs=dict(logs))
    bar.on_train_end(arguments, state, control)
    assert caplog.messages == ["Step 2: loss 2.0000, on dev 2.5000"]


def test_outside_of_a_terminal_the_bar_is_drawn_every_ten_seconds(
    speed: Speedometer, arguments: TrainingArguments, capsys: pytest.CaptureFixture[str]
) -> None:
    bar, state, control = SpeedBar(speed), TrainerState(max_steps=1000), TrainerControl()
    bar.on_train_begin(arguments, state, control)
    for state.global_step in range(1, 1001):
        bar.on_step_end(arguments, state, control)
    bar.on_train_end(arguments, state, control)
    states = [state for state in capsys.readouterr().err.split("\r") if state.strip()]
    assert len(states) == 2
    assert states[-1].startswith("100%")


def test_the_bar_takes_a_log_before_any_step(arguments: TrainingArguments) -> None:
    bar, state, control = SpeedBar(Speedometer(1, 1.0)), TrainerState(max_steps=4), TrainerControl()
    bar.on_train_begin(arguments, state, control)
    bar.on_log(arguments, state, control, logs={"eval_loss": 2.5})
    assert str(bar.training_bar) == "  0%|          | 0/4, ? left"
