from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from stages.compare import main
from stages.core.errors import UserError
from stages.core.revisions import open_revision
from stages.decoding.find_adapter import find_adapter

ROOT = Path(__file__).parents[2]
ROWS = "".join(f"dev_{row},{{}}\n" for row in range(8))
STAGE = """\
stages:
  train:
    cmd: echo
    outs: [models/adapter, data/predictions]
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project in a folder of a larger repository; its predictions have changed since the commit."""
    repository = tmp_path_factory.mktemp("monorepo")
    project = repository / "teams/nlp"
    for path, text in {
        "dvc.yaml": STAGE,
        ".gitignore": "/models\n/data\n",
        "models/adapter/adapter_model.safetensors": "weights",
        "data/predictions/dev.csv": "fname,summary\n" + ROWS.format(*["가"] * 8),
        "data/predictions/test.csv": "fname,summary\ntest_0,가\n",
        "data/checked/dev.csv": "fname,dialogue,summary\n" + ROWS.format(*["#Person1#: 네,가 나"] * 8),
        "data/checked/test.csv": "fname,dialogue\ntest_0,#Person1#: 네\n",
    }.items():
        (project / path).parent.mkdir(parents=True, exist_ok=True)
        (project / path).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / "params.yaml", project)
    for command in (
        ["git", "-C", str(repository), "init", "-q", "-b", "main"],
        ["dvc", "init", "-q", "--subdir"],
        ["dvc", "commit", "-q", "-f"],
        ["git", "add", "-A"],
        ["git", "-c", "user.name=Test", "-c", "user.email=test@example.com", "commit", "-q", "-m", "first"],
    ):
        subprocess.run(command, cwd=project, check=True, capture_output=True)
    (project / "data/predictions/dev.csv").write_text("fname,summary\n" + ROWS.format(*["가 나"] * 8), encoding="utf-8")
    return project


@pytest.fixture
def within(project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(project)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return project


def test_files_in_git_and_in_the_cache(within: Path) -> None:
    revision = open_revision("main")
    assert revision.read(Path("dvc.yaml")).decode() == STAGE
    assert revision.read(Path("data/predictions/dev.csv")).decode().splitlines()[1] == "dev_0,가"
    with pytest.raises(FileNotFoundError):
        revision.read(Path("data/predictions/train.csv"))
    with pytest.raises(LookupError):
        open_revision("nowhere")


def test_runs_are_compared(within: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["main", "workspace"])
    # One word of two, and no pair: R-1 and R-L 66.67.
    assert capsys.readouterr().out.splitlines()[1].split()[:5] == ["dev", "word", "44.44", "100.00", "+55.56"]


def test_an_adapter_of_a_revision_joins_an_ensemble(within: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(within.parent)
    monkeypatch.setenv("DVC_ROOT", str(within))
    folder = find_adapter("main")
    assert (folder / "adapter_model.safetensors").read_text() == "weights"
    assert within / "models/partial/adapters" in folder.parents
    with pytest.raises(UserError) as caught:
        find_adapter("nowhere")
    assert "decoding.ensemble: 'nowhere' has no adapter here" in str(caught.value)
