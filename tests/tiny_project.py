"""A small project in the working folder: the tiny base model fetched, and all that `train` and later stages read."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

from stages import fetch_model
from stages.core import fingerprint
from stages.corpus.tables import AUGMENTED_COLUMNS, read_table, write_table
from tests.preloaded_python import folder_of_python
from tests.tiny import SAMPLE

ROOT = Path(__file__).parents[1]


def build_project(checkpoints: dict[str, Path]) -> None:
    """Fill the working folder: a repository with one commit, base models, and tables as `check` and `merge` write them.

    12 training rows, two of them once more as augmented ones; 5 dev rows with references; 3 test rows without.

    Args:
        checkpoints: the base models by prompt style; `model.name` is the style, at first `plain`.
    """
    shutil.copy(ROOT / "params.yaml", ".")
    registry = {}
    for style, checkpoint in checkpoints.items():
        folder = f"models/weights/{style}"
        shutil.copytree(checkpoint, folder)
        registry[style] = {"source": "local", "path": folder, "prompt": style, "max_length": 2048, "licence": "ours"}
    YAML().dump(registry, Path("models.yaml"))
    configure(
        model={"name": "plain"},
        train={"learning_rate": 5e-3, "eval_steps": 2, "preview_samples": 2, "preview_max_new_tokens": 8},
        decoding={"max_new_tokens": 8, "batch_size": 4, "tune_samples": 3, "tune_num_beams": [1, 2]},
    )
    fetch_model.main()
    _write_tables()
    for command in (["init", "-q"], ["add", "params.yaml", "models.yaml"], ["commit", "-q", "-m", "start"]):
        git = ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com"]
        subprocess.run([*git, *command], check=True)


def configure(**sections: dict[str, Any]) -> None:
    """Change params.yaml in the working folder: `configure(train={"epochs": 1})`."""
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    for section, values in sections.items():
        params[section].update(values)
    yaml.dump(params, Path("params.yaml"))


def copy_of_the_code(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of dvc.yaml and the stages' sources that stands for the code that runs, where a test can change it."""
    shutil.copy(ROOT / "dvc.yaml", folder)
    shutil.copytree(ROOT / "stages", folder / "stages", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(fingerprint, "ROOT", folder)
    return folder


def start_stage(name: str, **variables: str) -> subprocess.Popen[bytes]:
    """A stage on the working folder's project, in a process that finds libraries imported; see `end` and `kill`."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}
    environment["PATH"] = os.pathsep.join([folder_of_python(environment), environment["PATH"]])
    command = ["python", "-m", f"stages.{name}"]
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


def end(stage: subprocess.Popen[bytes]) -> None:
    """Wait until a stage has done all it has to do."""
    said, _ = stage.communicate()
    assert stage.returncode == 0, said.decode()


def kill(stage: subprocess.Popen[bytes]) -> None:
    """SIGKILL, and wait until the stage and all that it has started has ended, which holds the pipe open till then."""
    assert stage.poll() is None, "killed before its end"
    stage.kill()
    stage.communicate(timeout=60)
    assert stage.returncode == -signal.SIGKILL, "killed before its end"


def _write_tables() -> None:
    train = read_table(SAMPLE / "train.csv", "train").head(12).assign(source="original")
    copies = train.head(2).assign(source="speaker_swap", fname=lambda rows: rows["fname"] + ".swap")
    merged = pd.concat([train, copies]).reindex(columns=AUGMENTED_COLUMNS, fill_value="")
    write_table(merged, Path("data/merged/train.csv"))
    write_table(read_table(SAMPLE / "dev.csv", "dev").head(5), Path("data/checked/dev.csv"))
    test = read_table(SAMPLE / "test.csv", "test").head(3)
    write_table(test[["fname", "dialogue"]], Path("data/checked/test.csv"))
