from __future__ import annotations

import shutil
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from transformers import TrainerControl, TrainerState, TrainingArguments

from stages.core import fingerprint
from stages.training.checkpoints import MarkComplete, is_last, last_checkpoint, run_folder

SETTINGS = {"seed": 42, "lora": {"r": 16, "target_modules": ["q_proj"]}}


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    Path("train.csv").write_text("a", encoding="utf-8")
    return Path("train.csv")


def save(run: Path, step: int, *, stopped: bool = False) -> Path:
    """A checkpoint as the trainer writes it: its files, then the word to the callbacks."""
    checkpoint = run / f"checkpoint-{step}"
    checkpoint.mkdir(parents=True)
    for name in ("adapter_model.safetensors", "optimizer.pt"):
        (checkpoint / name).write_text(str(step), encoding="utf-8")
    control = TrainerControl(should_training_stop=stopped)
    state = TrainerState(global_step=step, stateful_callbacks=[control])
    state.save_to_json(str(checkpoint / "trainer_state.json"))
    MarkComplete().on_save(TrainingArguments(str(run)), state, control)
    return checkpoint


def test_a_run_has_a_folder_beside_the_weights(data: Path, tmp_path: Path) -> None:
    run = run_folder(SETTINGS, [data])
    assert run.parent == tmp_path / "models" / "checkpoints"
    assert run == run_folder(dict(reversed(SETTINGS.items())), [data])
    assert not run.exists()


def test_a_copy_of_the_repository_shares_the_folder(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_folder(SETTINGS, [data])
    (tmp_path / "copy").mkdir()
    shutil.copy(data, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    assert run_folder(SETTINGS, [data]) == run


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS | {"seed": 43},
        SETTINGS | {"lora": {"r": 8, "target_modules": ["q_proj"]}},
        SETTINGS | {"lora": {"r": 16, "target_modules": ["k_proj"]}},
        SETTINGS | {"max_new_tokens": 96},
    ],
)
def test_other_settings_have_another_folder(settings: dict[str, Any], data: Path) -> None:
    assert run_folder(settings, [data]) != run_folder(SETTINGS, [data])


def test_other_data_has_another_folder(data: Path) -> None:
    run = run_folder(SETTINGS, [data])
    shutil.copy(data, "dev.csv")
    assert run_folder(SETTINGS, [data, Path("dev.csv")]) != run
    data.write_text("b", encoding="utf-8")
    assert run_folder(SETTINGS, [data]) != run


@pytest.mark.parametrize("library", ["accelerate", "bitsandbytes", "peft", "torch", "transformers", "trl"])
def test_another_version_of_a_library_has_another_folder(
    library: str, data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = run_folder(SETTINGS, [data])
    monkeypatch.setattr(fingerprint, "version", lambda name: "0.1" if name == library else version(name))
    assert run_folder(SETTINGS, [data]) != run


def test_the_last_checkpoint_is_that_of_the_latest_step(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "run") is None
    for step in (100, 8, 12):
        save(tmp_path, step)
    assert last_checkpoint(tmp_path) == tmp_path / "checkpoint-100"
    assert len(list(tmp_path.glob("checkpoint-*"))) == 3


def test_a_checkpoint_that_was_not_written_whole_is_removed_and_the_one_before_is_used(tmp_path: Path) -> None:
    whole = save(tmp_path, 12)
    (save(tmp_path, 24) / "complete.json").unlink()
    assert last_checkpoint(tmp_path) == whole
    assert list(tmp_path.iterdir()) == [whole]


@pytest.mark.parametrize("name", ["adapter_model.safetensors", "optimizer.pt", "trainer_state.json"])
def test_a_checkpoint_that_was_being_deleted_is_removed_too(name: str, tmp_path: Path) -> None:
    (save(tmp_path, 12) / name).unlink()
    assert last_checkpoint(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_the_previews_of_a_run_are_no_checkpoints(tmp_path: Path) -> None:
    (tmp_path / "previews").mkdir()
    assert last_checkpoint(tmp_path) is None
    assert (tmp_path / "previews").is_dir()


@pytest.mark.parametrize("stopped", [True, False])
def test_a_checkpoint_knows_whether_training_ended_with_it(stopped: bool, tmp_path: Path) -> None:
    assert is_last(save(tmp_path, 12, stopped=stopped)) is stopped
