from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages import evaluate, infer, refit, train
from stages.core import paths
from stages.core.files import read_json, remove, write_json
from stages.core.params import load_params
from stages.corpus.tables import read_table, references
from stages.engines.settings import DecodingSettings
from stages.retraining import last_adapter
from stages.retraining.last_adapter import dev_as_training
from stages.scoring.score_table import summary_table
from stages.training import session
from stages.training.schedule import make_schedule
from tests.test_train import Killed, die_after_step
from tests.tiny_project import configure

SETTINGS = DecodingSettings(max_new_tokens=8)


def outputs() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(paths.REFIT.rglob("*")) if path.is_file()}


def train_once() -> None:
    """A project with an adapter whose best step was the sixth of eight, and a refit asked for."""
    configure(
        train={"preview_samples": 0},
        lora={"dropout": 0.2},
        refit={"enabled": True},
        decoding={"min_hangul": 0.0},
    )
    train.main()
    logged = read_json(paths.TRAINING_LOG / "metrics.json")
    logged["best"]["step"] = 6
    write_json(paths.TRAINING_LOG / "metrics.json", logged)
    write_json(paths.DECODING, {"objective": "balanced", "chosen": asdict(SETTINGS)})


@pytest.fixture
def trained(project_after: Callable[..., Path]) -> None:
    project_after(train_once)


def test_every_reference_of_dev_is_a_row() -> None:
    dev = pd.DataFrame({"fname": ["dev_1"], "dialogue": ["#Person1#: 네"], "summary1": ["가"], "summary2": ["나"]})
    rows = dev_as_training(dev)
    assert rows.columns.tolist() == ["fname", "dialogue", "summary", "topic", "source"]
    assert rows.to_numpy().tolist() == [
        ["dev_1.ref1", "#Person1#: 네", "가", "", "dev"],
        ["dev_1.ref2", "#Person1#: 네", "나", "", "dev"],
    ]


def test_it_learns_train_and_dev_as_far_as_was_best_on_dev(trained: None, monkeypatch: pytest.MonkeyPatch) -> None:
    learned: list[Any] = []
    trainers: list[Any] = []
    build = session.build_trainer

    def spied(params: Any, data: Any, *args: Any, **kwargs: Any) -> Any:
        learned.append(data)
        trainers.append(build(params, data, *args, **kwargs))
        return trainers[-1]

    monkeypatch.setattr(last_adapter, "build_trainer", spied)
    refit.main()
    [data], [trainer] = learned, trainers
    dev = read_table(paths.DEV, "dev")
    every = [reference for row in references(dev) for reference in row]
    assert data.sources == {"original": 12, "speaker_swap": 2, "dev": len(every)}
    assert len(data.rows) == 14 + len(every)
    assert data.dev_rows == []
    assert {data.builder.summary(row.completion_ids) for row in data.rows} >= {" ".join(text.split()) for text in every}
    steps = make_schedule(14 + len(every), load_params().train).steps
    assert trainer.state.max_steps == steps
    assert trainer.state.global_step == round(6 / 8 * steps) < steps
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert len(rates) == trainer.state.global_step
    assert rates[-1] > 0.05 * max(rates), "the schedule is that of the whole, not ended early"
    assert not [entry for entry in trainer.state.log_history if "eval_loss" in entry]
    card = (paths.REFIT / "README.md").read_text(encoding="utf-8")
    assert (
        f"- Ended after step {trainer.state.global_step}, as step 6 of 8 was best in the run that it follows. "
        "It learned dev too, so it has no dev score of its own.\n"
    ) in card
    assert f"| dev | {len(every)} |" in card
    assert not list(Path("models/checkpoints").iterdir())


@pytest.mark.parametrize("step", [1, 5, None])
def test_an_interrupted_refit_goes_on_to_the_same_bytes(
    step: int | None, trained: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    refit.main()
    whole = outputs()
    remove(paths.REFIT)

    def die(*args: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        if step is None:
            patch.setattr(last_adapter, "write_adapter", die)
        else:
            patch.setattr(session, "Speedometer", die_after_step(step))
        with pytest.raises(Killed):
            refit.main()
    assert not paths.REFIT.exists()
    refit.main()
    assert outputs() == whole


def test_it_summarizes_test_and_the_run_that_it_follows_dev(trained: None, capsys: pytest.CaptureFixture[str]) -> None:
    refit.main()
    infer.main()
    with_refit = {path.name: path.read_bytes() for path in paths.PREDICTIONS.iterdir()}
    evaluate.main()
    scores = read_json(paths.EVAL_SCORES)
    assert scores["refitted"] == {"dev": "models/adapter", "test": "models/refit"}
    line = (
        "test is by models/refit, which learned dev too and has no dev score of its own; dev is by models/adapter, the "
        "run that it follows"
    )
    assert line in capsys.readouterr().out
    assert line in summary_table(scores)
    report = paths.REPORT.read_text(encoding="utf-8")
    assert "so it has no dev score of its own" in report
    assert set(json.loads(paths.EVAL_METRICS.read_text(encoding="utf-8"))) == {"dev"}

    configure(refit={"enabled": False})
    infer.main()
    alone = {path.name: path.read_bytes() for path in paths.PREDICTIONS.iterdir()}
    assert alone["dev.csv"] == with_refit["dev.csv"]
    assert alone["test.csv"] != with_refit["test.csv"]
    evaluate.main()
    assert "refitted" not in read_json(paths.EVAL_SCORES)
    assert "so it has no dev score of its own" not in paths.REPORT.read_text(encoding="utf-8")
    # What the refitted adapter wrote is what it writes where it is the run's own.
    remove(paths.ADAPTER)
    paths.REFIT.rename(paths.ADAPTER)
    infer.main()
    assert (paths.PREDICTIONS / "test.csv").read_bytes() == with_refit["test.csv"]


def test_without_a_refit_its_folder_is_empty(tiny_project: Path) -> None:
    refit.main()
    assert list(paths.REFIT.iterdir()) == []
