"""The page of all runs, drawn from small repositories: what DVC and Git know of a run, and what they do not."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages import leaderboard
from stages.core import paths
from stages.core.errors import UserError
from stages.core.training_speeds import LOSSES, keep_speed
from stages.pages.leaderboard_page import Run
from stages.scoring.metrics import compared
from stages.scoring.rouge import Scores
from stages.scoring.row_scores import row_score, to_csv
from tests.parsed_page import Page, in_english, texts
from tests.tiny_project import ROOT

ROWS = 12


def run(folder: Path, *command: str) -> str:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def record(folder: Path, score: float, losses: list[float], rows: int = ROWS) -> None:
    """Write what a run leaves in Git; a row scores a little more or less than the mean."""
    values = [score + (row % 3 - 1) for row in range(rows)]
    by_row = {f"dev_{row}": Scores(value, value, value) for row, value in enumerate(values)}
    mean = sum(values) / rows
    level = {"final": mean, "final_low": mean - 1, "final_high": mean + 1}
    scores = {
        "dev": {"word": level, "morpheme": level, "clipped": level, "checks": {"repeats": 25.0}, "length_ratio": 1.5}
    }
    scored = {name: row_score([name], dict.fromkeys(compared(), of)) for name, of in by_row.items()}
    files = {
        paths.EVAL_METRICS: json.dumps({"dev": {"morpheme": {"final": mean}}}),
        paths.EVAL_SCORES: json.dumps(scores),
        paths.ROW_SCORES: to_csv({"dev": scored}, "kiwi"),
        paths.TRAIN_HEADLINE: json.dumps({"best": {"eval_loss": losses[-1]}}),
        paths.MACHINE: json.dumps({"processor": "Intel family 6 (AVX2)"}),
        paths.TRAIN_METRICS / LOSSES: curve(losses),
        paths.TRAIN_METRICS / leaderboard.DEV_LOSSES: curve(losses[1:]),
    }
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")


def curve(losses: list[float]) -> str:
    return "step\tloss\n" + "".join(f"{step}\t{loss}\n" for step, loss in enumerate(losses, 1))


def change(folder: Path, **sections: dict[str, Any]) -> None:
    yaml = YAML()
    params = yaml.load(folder / "params.yaml")
    for section, values in sections.items():
        params[section].update(values)
    yaml.dump(params, folder / "params.yaml")


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository of which only params.yaml, dvc.yaml and metrics are there.

    `main` had no scores at its first commit, tagged `empty`. Of the experiments `rank32` is better than main, `rank8`
    as good and the head of the branch `chosen`, `small` scored other dialogues, and `later` waits.
    """
    folder = tmp_path_factory.mktemp("repository")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / ".gitignore").write_text("/metrics/figures\n/models\n")
    metrics = f"{{metrics: [{paths.EVAL_METRICS}: {{cache: false}}]}}"
    (folder / "dvc.yaml").write_text(f"stages:\n  evaluate: {{cmd: 'true', params: [lora], {metrics[1:]}\n")
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "Test")
    run(folder, "git", "config", "user.email", "test@example.com")
    run(folder, "dvc", "init", "-q")
    commit(folder, "start")
    run(folder, "git", "tag", "-a", "empty", "-m", "before the first run")
    record(folder, 30, [3, 2, 1.5])
    baseline = commit(folder, "first run")
    for name, rank, score, rows in (("rank32", 32, 35, ROWS), ("rank8", 8, 30, ROWS), ("small", 4, 60, 2)):
        run(folder, "git", "checkout", "-q", "--detach")
        change(folder, lora={"r": rank})
        record(folder, score, [3, 2.5, rank / 10], rows)
        # As DVC keeps an experiment.
        run(folder, "git", "update-ref", f"refs/exps/{baseline[:2]}/{baseline[2:]}/{name}", commit(folder, name))
        run(folder, "git", "checkout", "-q", "main")
    run(folder, "git", "branch", "chosen", f"refs/exps/{baseline[:2]}/{baseline[2:]}/rank8")
    run(folder, "dvc", "exp", "run", "-q", "--queue", "-n", "later", "-S", "lora.r=64")
    return folder


def commit(folder: Path, message: str) -> str:
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", message)
    return run(folder, "git", "rev-parse", "HEAD").strip()


@pytest.fixture
def here(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(repository)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    return repository


def draw(*options: str) -> str:
    """The page's HTML."""
    leaderboard.main(options)
    return Path(options[-1] if options else paths.LEADERBOARD).read_text(encoding="utf-8")


def cells(page: str) -> dict[str, list[str]]:
    """The cells of each run, by its name."""
    body = in_english(page).split("<tbody>")[1].split("</tbody>")[0]
    lines = re.findall(r"<tr><th.*?<b>(.*?)</b>(.*?)</tr>", body, re.DOTALL)
    return {
        name: [" ".join(texts(cell)) for cell in re.findall(r"<t[dh].*?</t[dh]>", row, re.DOTALL)]
        for name, row in lines
    }


def test_every_run_stands_in_the_page_and_draws_it_alike(
    here: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lines have the rank, then of dev ROUGE, difference, clipped, words, repeats and length, and then training's."""
    page = draw()
    found = cells(page)
    machine = "Intel family 6"
    assert list(found) == ["rank32", "chosen, rank8", "main", "small", "empty", "later"]
    assert found["rank32"][:3] == ["32", "35.00 34.00–36.00", "the best"]
    assert found["main"][:2] == ["16", "30.00 29.00–31.00"]
    assert found["main"][2].startswith("-5.00 real -5.00 ~ -5.00, p")
    assert found["main"][3:10] == ["30.00 29.00–31.00", "30.00 29.00–31.00", "25.0", "1.50", "–", "1.5000", machine]
    assert found["small"][1:3] == ["59.50 58.50–60.50", "other dialogues or references: 10"]
    assert found["empty"] == ["16", *["–"] * 14]
    assert found["later"] == ["64", *["–"] * 14]
    assert '<b>later</b> <em class="queued">queued</em>' in in_english(page)
    assert page.count("<polyline points=") == 4
    assert in_english(page).count("Its losses are neither in Git nor in DVC's cache.".replace("'", "&#39;")) == 1
    assert Page(page).open == []
    assert draw("--output", str(tmp_path / "again.html")) == page
    assert capsys.readouterr().out.splitlines()[-1] == (
        f"{tmp_path}/again.html: 6 runs, the best on dev is rank32, 35.00"
    )


def test_a_workspace_that_is_no_commit_is_a_run_and_a_known_training_has_its_time(here: Path) -> None:
    try:
        record(here, 36, [3, 2, 1.25])
        keep(here, seconds_per_step=1301.5)
        found = cells(draw())
    finally:
        run(here, "git", "checkout", "-q", "--", ".")
    assert list(found)[:2] == ["workspace", "rank32"]
    assert found["workspace"][2] == "the best"
    assert found["workspace"][7] == "1:05:04"  # three steps
    assert found["rank32"][7] == "–"


def keep(folder: Path, seconds_per_step: float) -> None:
    """Keep a speed as a training that has just ended does."""
    (folder / paths.TRAINING_LOG / LOSSES).parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / paths.TRAIN_METRICS / LOSSES, folder / paths.TRAINING_LOG / LOSSES)
    keep_speed({"seconds_per_step": seconds_per_step})


def test_a_clone_before_its_first_run_and_a_revision_that_cannot_be_read(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path, "git", "clone", "-q", str(repository), "fresh")
    folder = tmp_path / "fresh"
    monkeypatch.chdir(folder)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    run(folder, "git", "config", "user.name", "Test")
    run(folder, "git", "config", "user.email", "test@example.com")
    run(folder, "git", "checkout", "-q", "-B", "main", "empty")
    page = in_english(draw())
    assert list(cells(page)) == ["main, empty"]
    assert "No run has scores of dialogues yet. `dvc repro` makes the first." in page

    (folder / "dvc.yaml").write_text("stages: [\n")
    run(folder, "git", "checkout", "-q", "-b", "broken")
    commit(folder, "broken")
    run(folder, "git", "checkout", "-q", "main")
    page = in_english(draw())
    assert list(cells(page)) == ["broken", "main, empty"]
    assert '<b>broken</b> <em class="unreadable">cannot be read</em>' in page


def test_experiments_that_run_and_that_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)

    def state(rev: str, name: str | None = None, **more: object) -> dict[str, Any]:
        return {"rev": rev, "name": name, "data": None, "error": None, "experiments": None, **more}

    def experiment(name: str, rev: str, executor: str) -> dict[str, Any]:
        return {"revs": [state(rev)], "executor": {"state": executor}, "name": name}

    waiting = [experiment("one", "workspace", "running"), experiment("two", "b" * 40, "failed")]
    shown = [state("workspace"), state("a" * 40, error={"msg": "no dvc.yaml", "type": "X"}, experiments=waiting)]
    assert leaderboard.read_runs(shown, {}) == [
        Run("aaaaaaa", "commit", state="unreadable", error="no dvc.yaml", commit="aaaaaaa"),
        Run("one", "experiment", state="running"),
        Run("two", "experiment", state="failed", commit="bbbbbbb"),
    ]
    assert leaderboard.read_runs([], {}) == []


def test_outside_of_a_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    shutil.copy(ROOT / "params.yaml", ".")
    with pytest.raises(
        UserError, match=r"^git for-each-ref: fatal: not a git repository.*; run it in the repository's folder$"
    ):
        leaderboard.main([])


def test_what_is_drawn_is_no_file_of_git() -> None:
    files = [str(paths.LEADERBOARD), "models/speeds/0.json"]
    assert run(ROOT, "git", "check-ignore", *files).split() == files
