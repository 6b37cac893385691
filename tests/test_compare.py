from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from stages.compare import main
from stages.core.errors import UserError
from stages.scoring.metrics import METRICS
from stages.scoring.rouge import Scores
from stages.scoring.row_scores import row_score, to_csv

ROOT = Path(__file__).parents[1]
ROWS = 12
REFERENCE = "가 나 다 라"
WORSE, BETTER = "가 마 바 사", "가 나 다 사"


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A repository whose first commit, tagged `first`, predicts worse than an experiment `second`.

    The workspace predicts as `second` does. Test has no references.
    """
    folder = tmp_path_factory.mktemp("repository")
    shutil.copy(ROOT / "params.yaml", folder)
    (folder / ".gitignore").write_text("/data\n")
    stage = "stages:\n  infer:\n    cmd: echo\n    deps: [params.yaml]\n    outs: [data/predictions]\n"
    (folder / "dvc.yaml").write_text(stage)
    write_tables(folder)
    run(folder, "git", "init", "-q", "-b", "main")
    run(folder, "git", "config", "user.name", "Test")
    run(folder, "git", "config", "user.email", "test@example.com")
    run(folder, "dvc", "init", "-q")
    predict(folder, WORSE)
    run(folder, "git", "add", "-A")
    run(folder, "git", "commit", "-q", "-m", "first")
    run(folder, "git", "tag", "first")
    predict(folder, BETTER)
    run(folder, "dvc", "exp", "save", "-q", "-n", "second")
    return folder


def run(folder: Path, *command: str) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout + done.stderr


def write_tables(folder: Path) -> None:
    (folder / "data/checked").mkdir(parents=True)
    dev = "".join(f"dev_{row},#Person1#: 네,{REFERENCE}\n" for row in range(ROWS))
    (folder / "data/checked/dev.csv").write_text(f"fname,dialogue,summary\n{dev}", encoding="utf-8")
    (folder / "data/checked/test.csv").write_text("fname,dialogue\ntest_0,#Person1#: 네\n", encoding="utf-8")


def predict(folder: Path, summary: str) -> None:
    """Predict every row, the first one always right, and let DVC have it."""
    (folder / "data/predictions").mkdir(exist_ok=True)
    rows = "".join(f"dev_{row},{summary if row else REFERENCE}\n" for row in range(ROWS))
    for path in (folder / "data/predictions").iterdir():
        path.unlink()
    (folder / "data/predictions/dev.csv").write_text(f"fname,summary\n{rows}", encoding="utf-8")
    (folder / "data/predictions/test.csv").write_text(f"fname,summary\ntest_0,{summary}\n", encoding="utf-8")
    run(folder, "dvc", "commit", "-q", "-f", "infer")


@pytest.fixture
def compared(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(repository)
    return repository


def test_a_tag_and_an_experiment(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["first", "second"])
    head, word, morpheme, clipped, test = capsys.readouterr().out.splitlines()
    assert head.split() == ["first", "second", "difference", "95%", "interval", "p"]
    # Words in common: 1 of 4 against 3 of 4; pairs of words: 0 of 3 against 2 of 3. One row of 12 is right in both.
    assert word.split()[:5] == ["dev", "word", "23.61", "74.54", "+50.93"]
    assert word.endswith("real")
    assert morpheme.startswith("dev morpheme")
    assert clipped.startswith("dev clipped")
    assert test == "test            no references"


def test_the_workspace_with_what_it_holds(compared: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["second", "workspace"])
    word = capsys.readouterr().out.splitlines()[1]
    assert " ".join(word.split()) == "dev word 74.54 74.54 +0.00 +0.00 to +0.00 1.0000 may be chance"


def test_an_unknown_revision(compared: Path) -> None:
    with pytest.raises(UserError) as caught:
        main(["nowhere", "workspace"])
    assert str(caught.value) == (
        "nowhere: no such revision; `git branch`, `git tag` and `dvc exp list` name those there are"
    )


def test_predictions_that_the_cache_does_not_hold(compared: Path) -> None:
    cache = compared / ".dvc/cache"
    cache.rename(compared / ".dvc/elsewhere")
    try:
        with pytest.raises(UserError) as caught:
            main(["first", "workspace"])
    finally:
        shutil.rmtree(cache, ignore_errors=True)
        (compared / ".dvc/elsewhere").rename(cache)
    assert str(caught.value) == (
        "first: its data/predictions/dev.csv is not in DVC's cache; check it out, run `dvc repro` and come back"
    )


def test_predictions_of_other_dialogues(compared: Path) -> None:
    dev = compared / "data/checked/dev.csv"
    kept = dev.read_text(encoding="utf-8")
    dev.write_text(kept + f"dev_99,#Person1#: 네,{REFERENCE}\n", encoding="utf-8")
    try:
        with pytest.raises(UserError) as caught:
            main(["first", "second"])
    finally:
        dev.write_text(kept, encoding="utf-8")
    assert str(caught.value) == (
        "first: data/predictions/dev.csv: not predicted: dev_99 (rows: 1); run `dvc repro` to predict again"
    )


@pytest.fixture
def fresh(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone without a cache, whose last two commits, tagged `worse` and `better`, keep the scores of their rows."""
    run(tmp_path, "git", "clone", "-q", str(repository), "fresh")
    folder = tmp_path / "fresh"
    for revision, score in (("worse", 23.5), ("better", 74.25)):
        keep_scores(folder, score)
        commit(folder, revision)
    monkeypatch.chdir(folder)
    return folder


def keep_scores(folder: Path, score: float, rows: int = ROWS, analyzer: str = "kiwi") -> None:
    (folder / "metrics/eval").mkdir(parents=True, exist_ok=True)
    same = Scores(score, score, score)
    scores = {"dev": {f"dev_{row}": row_score([REFERENCE], dict.fromkeys(METRICS, same)) for row in range(rows)}}
    (folder / "metrics/eval/rows.csv").write_text(to_csv(scores, analyzer), encoding="utf-8")


def commit(folder: Path, tag: str) -> None:
    run(folder, "git", "add", "-A")
    run(folder, "git", "-c", "user.name=Test", "-c", "user.email=test@example.com", "commit", "-q", "-m", tag)
    run(folder, "git", "tag", tag)


def test_two_commits_in_a_clone_that_ran_nothing(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["worse", "better"])
    _, word, morpheme, clipped, test = capsys.readouterr().out.splitlines()
    assert word.split()[:5] == ["dev", "word", "23.50", "74.25", "+50.75"]
    assert morpheme.split()[:5] == ["dev", "morpheme", "23.50", "74.25", "+50.75"]
    assert clipped.split()[:5] == ["dev", "clipped", "23.50", "74.25", "+50.75"]
    assert test == "test            no references"
    main(["worse", "workspace"])
    assert capsys.readouterr().out.splitlines()[1].split()[:5] == word.split()[:5]


def test_a_run_of_this_clone_beside_the_recorded_one(fresh: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The workspace is scored by its predictions, whatever scores it was checked out with."""
    write_tables(fresh)
    (fresh / "data/predictions").mkdir()
    rows = "".join(f"dev_{row},{REFERENCE}\n" for row in range(ROWS))
    (fresh / "data/predictions/dev.csv").write_text(f"fname,summary\n{rows}", encoding="utf-8")
    main(["better", "workspace"])
    assert capsys.readouterr().out.splitlines()[1].split()[:5] == ["dev", "word", "74.25", "100.00", "+25.75"]


def test_scores_of_other_dialogues(fresh: Path) -> None:
    keep_scores(fresh, 50, rows=ROWS + 3)
    with pytest.raises(UserError) as caught:
        main(["better", "workspace"])
    assert str(caught.value) == (
        "better and workspace: 3 rows of dev are other dialogues, or have other references, in the one than in the "
        "other, first dev_12; compare runs of the same tables"
    )


def test_scores_by_another_analyzer(fresh: Path) -> None:
    write_tables(fresh)
    keep_scores(fresh, 50, analyzer="mecab")
    commit(fresh, "by_mecab")
    with pytest.raises(UserError) as caught:
        main(["by_mecab", "workspace"])
    assert str(caught.value) == (
        "by_mecab: its data/predictions/dev.csv is not in DVC's cache; its scores are by mecab, so set "
        "evaluate.morphemes: mecab in params.yaml"
    )
