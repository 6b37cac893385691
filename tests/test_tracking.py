from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path

import pytest
from dvclive import Live
from transformers import TrainerControl, TrainerState, TrainingArguments

from stages.common.tracking import Speedometer, TrackWithLive

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


def test_speed_is_that_of_the_steps_since_training_went_on(
    arguments: TrainingArguments, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first step takes 2 seconds, then an evaluation 8, and the second step 3.
    monkeypatch.setattr(time, "perf_counter", iter([0.0, 2.0, 10.0, 13.0]).__next__)
    speed = Speedometer()
    speed.on_train_begin(arguments, TrainerState(num_input_tokens_seen=500), TrainerControl())
    for _ in range(2):
        speed.on_step_begin()
        speed.on_step_end()
    report = speed.report(700)
    assert speed.steps == 2
    assert report["tokens_per_second"] == 40.0
    assert report["seconds_per_step"] == 2.5
    assert 0.05 < report["peak_memory_gib"] < 100
