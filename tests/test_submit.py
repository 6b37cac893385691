"""`make submission`: one folder for each submission, the same bytes however often it is killed."""

from __future__ import annotations

import hashlib
import json
import random
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from tests.clone import CHECKPOINT, Clone, stages_run

pytestmark = pytest.mark.slow
FILES = ["params.yaml", "record.json", "record.md", "submission.csv"]


def kept(clone: Clone) -> dict[str, dict[str, bytes]]:
    """The submissions of a repository: their files by name."""
    folders = sorted((clone.folder / "submissions").iterdir())
    return {folder.name: {file.name: file.read_bytes() for file in sorted(folder.iterdir())} for folder in folders}


def kill_in(clone: Clone, stage: str, seconds: float) -> None:
    """Start it, and kill it with all that it started so long after a stage began."""
    command = ["python", "-m", "stages.submit"]
    running = subprocess.Popen(
        command, cwd=clone.folder, env=clone.environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    assert running.stdout
    said = ""
    while f"Running stage '{stage}'" not in said:
        line = running.stdout.readline()
        assert line, said
        said += line
    time.sleep(seconds)
    assert running.poll() is None, said
    running.kill()
    running.communicate(timeout=60)  # returns once all have ended


def test_a_submission_that_is_killed_three_times_ends_in_the_same_bytes(tmp_path: Path) -> None:
    first = Clone(tmp_path / "first" / "repository")
    second = Clone.of(first.folder, tmp_path / "second" / "repository")
    shutil.copytree(first.folder / CHECKPOINT, second.folder / CHECKPOINT)
    first.link_environment()
    printed = first.run("make", "submission").stdout
    [[name, files]] = kept(first).items()
    assert list(files) == FILES
    assert files["submission.csv"] == first.bytes("data/submission.csv")
    assert files["params.yaml"] == first.bytes("params.yaml")
    record = json.loads(files["record.json"])
    commit = first.git("rev-parse", "HEAD").strip()
    assert name == f"{commit[:7]}-{hashlib.sha256(files['record.json']).hexdigest()[:8]}"
    assert (record["commit"], record["changed"], record["params_changed"]) == (commit, [], {})
    weights = first.bytes("models/adapter/adapter_model.safetensors")
    assert record["adapters"] == {"models/adapter": hashlib.sha256(weights).hexdigest()}
    assert record["base"] == json.loads(first.bytes("models/base.json"))
    assert list(record["scores"]) == ["dev", "test"]
    scores = json.loads(first.bytes("metrics/eval/scores.json"))
    assert record["scores"]["dev"]["repeats"] == scores["dev"]["checks"]["repeats"]
    assert record["submission"]["rows"] == 12
    assert "data/sample/train.csv" in record["data"] and "data/merged/train.csv" in record["data"]
    assert files["record.md"].decode() in printed
    assert f"submissions/{name}/submission.csv is the file to hand in" in printed
    assert first.git("status", "--porcelain", "--", "submissions") == ""

    moments = random.Random(19)
    for stage in ("merge", "train", "infer"):
        kill_in(second, stage, moments.uniform(0, 3))
    log = second.run("python", "-m", "stages.submit").stdout
    assert "train" not in stages_run(log)
    assert kept(second) == kept(first)

    # Other parameters make another submission, and leave the first one alone.
    with_folds = {"folds.n": [0, 2], "decoding.rerank": ["none", "mbr"], "decoding.ensemble": [[], ["folds"]]}
    second.edit("params.yaml", {"folds": {"n": 2}, "decoding": {"rerank": "mbr", "ensemble": ["folds"]}})
    second.run("python", "-m", "stages.submit")
    assert len(kept(second)) == 2
    assert kept(second)[name] == files
    [other] = [each for each in kept(second) if each != name]
    changed = json.loads(kept(second)[other]["record.json"])
    assert (changed["changed"], changed["params_changed"]) == (["params.yaml"], with_folds)
    assert list(changed["adapters"]) == ["models/adapter", "models/folds/0", "models/folds/1"]


def test_a_stage_that_fails_leaves_no_submission(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "repository")
    clone.edit("params.yaml", {"data": {"source": "data/none"}})
    done = clone.run("python", "-m", "stages.submit", check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "error: dvc repro: failed, as it says above; mend that, and the same command goes on from there"
    )
    assert not (clone.folder / "submissions").exists()
