from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import UserError
from stages.core.files import write_json
from stages.show import main

SCORES = {
    "word": {"rouge1": 20.0, "rouge2": 4.0, "rougeL": 18.0, "final": 14.0},
    "morpheme": {"rouge1": 45.678, "rouge2": 20.0, "rougeL": 40.0, "final": 35.226},
    "clipped": {"rouge1": 40.0, "rouge2": 10.0, "rougeL": 40.0, "final": 30.0},
    "baselines": {"lead2": {"final": 18.85}, "lead3": {"final": 20.47}, "longest3": {"final": 24.67}},
    "checks": {"repeats": 12.5},
    "length_ratio": 1.2345,
    "empty": 0,
}


def test_the_last_run_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "metrics/eval/scores.json", {"dev": SCORES})
    main()
    assert (
        capsys.readouterr().out
        == """\
dev             word  morpheme   clipped       R-1       R-2       R-L   repeats    length
model          14.00     35.23     30.00     45.68     20.00     40.00       12%    x 1.23
lead2                    18.85
lead3                    20.47
longest3                 24.67

test      no references: predicted, not scored

adapter      models/adapter
predictions  data/predictions
submission   data/submission.csv
metrics      metrics/eval/metrics.json
scores       metrics/eval/scores.json
report       metrics/eval/report.html
exploration  metrics/figures/explore.html
"""
    )


RECORDED = {"processor": "AMD family 25 model 17 (AVX2, AVX-512)", "threads": 2, "torch": "2.13.0+cpu"}
GPU = {"processor": "NVIDIA H100 80GB HBM3", "torch": "2.13.0+cu130"}


@pytest.fixture
def committed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a project in a folder of its repository, with a run recorded in Git."""
    project = tmp_path / "projects/summaries"
    project.mkdir(parents=True)
    monkeypatch.chdir(project)
    write_json(project / "metrics/eval/scores.json", {"dev": SCORES})
    (project / "params.yaml").write_text("lora: {r: 16}\n")
    run_on(RECORDED, "first")
    git = ["git", "-C", str(tmp_path), "-c", "user.name=Test", "-c", "user.email=test@example.com"]
    for command in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "recorded"]):
        subprocess.run([*git, *command], check=True)
    return project


def run_on(machine: dict[str, Any], result: str) -> None:
    write_json(Path("metrics/train/machine.json"), machine)
    Path("dvc.lock").write_text(result, encoding="utf-8")


def test_bytes_of_another_machine_are_explained(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_on(GPU, "second")
    main()
    *_, blank, last = capsys.readouterr().out.splitlines()
    assert blank == ""
    assert last.startswith(
        "The committed run was recorded on AMD family 25 model 17 (AVX2, AVX-512), 2 threads, torch 2.13.0+cpu; this "
        "one ran on NVIDIA H100 80GB HBM3, torch 2.13.0+cu130."
    )
    [command] = [part for part in last.split("`") if part.startswith("git")]
    subprocess.run(command.split(), check=True)
    assert Path("dvc.lock").read_text(encoding="utf-8") == "first"
    main()
    assert "recorded on" not in capsys.readouterr().out


@pytest.mark.parametrize(("machine", "result"), [(RECORDED, "second"), (GPU, "first")])
def test_nothing_is_explained_on_one_kind_of_machine_or_where_bytes_are_the_same(
    committed: Path, capsys: pytest.CaptureFixture[str], machine: dict[str, Any], result: str
) -> None:
    run_on(machine, result)
    main()
    assert capsys.readouterr().out.endswith("metrics/figures/explore.html\n")


def test_an_experiment_is_not_explained_by_the_machine(committed: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run_on(GPU, "second")
    (committed / "params.yaml").write_text("lora: {r: 32}\n")
    main()
    assert "recorded on" not in capsys.readouterr().out


def test_before_the_first_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        main()
    assert str(caught.value) == "metrics/eval/scores.json: not found; `dvc repro` writes it"
