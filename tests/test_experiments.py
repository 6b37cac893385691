"""Experiments: what reruns, what is refused, and what queued runs find."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import pytest

from tests.clone import CHECKPOINT, Clone, stages_run
from tests.fake_openai import FakeOpenAI
from tests.parsed_page import in_english
from tests.test_pipeline import STAGES

pytestmark = pytest.mark.slow


@pytest.fixture
def clone(with_llm: Clone) -> Clone:
    with_llm.restore()
    return with_llm


class Team(NamedTuple):
    """What colleagues share: a bare Git repository and a folder that is their DVC remote."""

    git: str
    storage: str


@pytest.fixture(scope="module")
def team(with_llm: Clone, tmp_path_factory: pytest.TempPathFactory) -> Team:
    """A team whose remote is in a commit: experiments that began before it would not know it."""
    folder = tmp_path_factory.mktemp("team")
    made = Team(str(folder / "repository.git"), str(folder / "storage"))
    with_llm.restore()
    with_llm.dvc("remote", "add", "--default", "storage", made.storage)
    with_llm.commit("a remote")
    return made


@pytest.fixture(scope="module")
def shared(with_llm: Clone, team: Team) -> Team:
    """The team, with all results of the main branch and the experiment rank8."""
    with_llm.restore()
    if "rank8" not in with_llm.dvc("exp", "list"):
        with_llm.dvc("exp", "run", "-n", "rank8", "-S", "lora.r=8")
        with_llm.restore()
    with_llm.git("init", "-q", "--bare", "-b", "main", team.git)
    with_llm.git("push", "-q", team.git, "HEAD:main")
    with_llm.dvc("push", "--run-cache")
    with_llm.dvc("exp", "push", team.git, "rank8")
    return team


METRICS = [path for stage in STAGES.values() for metric in stage.get("metrics", []) for path in metric]
"""The files whose numbers DVC prints."""


def numbers(value: object) -> int:
    """How many numbers a metrics file holds."""
    return sum(map(numbers, value.values())) if isinstance(value, dict) else 1


def test_a_changed_rank_is_recorded_and_compared(team: Team, clone: Clone) -> None:
    log = clone.dvc("exp", "run", "-n", "rank8", "-S", "lora.r=8")
    trained = {"train", "folds", "candidates", "align", "refit"}
    assert set(stages_run(log)) == {*trained, "tune_decoding", "infer", "evaluate"}
    changed_files = set(clone.git("diff", "--name-only").split())
    assert changed_files >= {"dvc.lock", "metrics/train/metrics.json", "params.yaml"}
    assert all(name in ("dvc.lock", "params.yaml") or name.startswith("metrics/") for name in changed_files)
    assert "rank8" in clone.dvc("exp", "list")
    shown = json.loads(clone.run("dvc", "exp", "show", "--json").stdout)
    assert "rank8" in [experiment["name"] for experiment in shown[1]["experiments"]]
    assert json.loads(clone.run("dvc", "params", "diff", "main", "--json").stdout) == {
        "params.yaml": {"lora.r": {"old": 4, "new": 8, "diff": 4}}
    }
    changed = json.loads(clone.run("dvc", "metrics", "diff", "main", "--json").stdout)
    assert "train.loss" in changed["metrics/train/metrics.json"]
    differences = clone.dvc("metrics", "diff", "main", COLUMNS="120").splitlines()
    assert 3 < len(differences) < 25
    assert max(map(len, differences)) <= 120
    # 2 splits: 2 levels, published and clipped, repeats and length ratio; and training's 2 losses and best step.
    assert sum(numbers(json.loads(clone.bytes(path))) for path in METRICS) == 2 * 6 + 3
    table = clone.run("make", "experiments", COLUMNS="120").stdout
    assert max(map(len, table.splitlines())) <= 120
    head, workspace, main, rank8 = (line.split() for line in table.splitlines() if re.search(r"\w", line))
    assert "…" not in table
    assert set(head) <= {
        *("Experiment", "State", "dev.morpheme.final", "dev.repeats", "test.morpheme.final", "best.eval_loss"),
        "lora.r",
    }
    assert {"Experiment", "best.eval_loss", "lora.r"} <= set(head)
    assert (workspace[0], workspace[-1]) == ("workspace", "8")
    assert (main[0], main[-1]) == ("main", "4")
    assert (rank8[2], rank8[-1]) == ("[rank8]", "8")
    assert "index.html" in clone.dvc("plots", "diff", "main")
    assert "runs, the best on dev is " in clone.run("make", "leaderboard").stdout
    board = in_english(clone.bytes("metrics/figures/leaderboard.html").decode())
    lines = dict(re.findall(r"<tr><th[^>]*><b>(\w+)</b>(.*?)</tr>", board, re.DOTALL))
    for name, rank in (("main", "4"), ("rank8", "8")):
        assert f">{rank}</td>" in lines[name]
        # Both scored the same dialogues, and both were trained on this machine.
        assert re.search(r"the best|real|may be chance", lines[name])
        assert re.search(r">0:00:\d\d<", lines[name])
    assert clone.git("status", "--porcelain", "--", "metrics/figures", "models") == ""


def test_a_colleague_applies_an_experiment_and_nothing_runs_again(clone: Clone, shared: Team, tmp_path: Path) -> None:
    """But for the stage whose output no copy of the repository brings along."""
    colleague = Clone.of(Path(shared.git), tmp_path / "colleague")
    assert "rank8" in colleague.dvc("exp", "list", "origin")
    colleague.dvc("exp", "pull", "origin", "rank8")
    colleague.dvc("exp", "apply", "rank8")
    lock = colleague.bytes("dvc.lock")
    assert lock != clone.bytes("dvc.lock")
    assert json.loads(colleague.bytes("models/adapter/adapter_config.json"))["r"] == 8
    assert stages_run(colleague.dvc("repro")) == ["find_inputs"]
    assert colleague.bytes("dvc.lock") == lock


def test_a_colleague_gets_what_was_ever_run(shared: Team, tmp_path: Path) -> None:
    colleague = Clone.of(Path(shared.git), tmp_path / "colleague")
    colleague.dvc("pull", "--run-cache")
    assert json.loads(colleague.bytes("models/adapter/adapter_config.json"))["r"] == 4
    colleague.edit("params.yaml", {"lora": {"r": 8}})
    log = colleague.dvc("repro", "--pull", "train")
    assert stages_run(log) == []
    assert "Stage 'train' is cached - skipping run, checking out outputs" in log


def test_artifacts_are_got_by_name_and_by_version(clone: Clone, shared: Team, tmp_path: Path) -> None:
    lead = Clone.of(Path(shared.git), tmp_path / "lead")
    for tag in ("adapter@v1.0.0", "submission@v0.1.0"):
        lead.git("tag", "--annotate", "-m", "handed in", tag)
    lead.git("push", "-q", "--tags", "origin")

    def get(name: str, *options: str) -> None:
        lead.dvc("artifacts", "get", shared.git, name, "--out", str(tmp_path / "got"), *options)

    get("submission")
    assert (tmp_path / "got").read_bytes() == clone.bytes("data/submission.csv")
    (tmp_path / "got").unlink()
    get("adapter", "--rev", "v1.0.0")
    names = ["README.md", "adapter_config.json", "adapter_model.safetensors", "prompt.json"]
    assert sorted(path.name for path in (tmp_path / "got").iterdir()) == names
    assert all((tmp_path / "got" / name).read_bytes() == clone.bytes(f"models/adapter/{name}") for name in names)


def test_nothing_about_decoding_makes_training_stale(clone: Clone) -> None:
    def stale() -> set[str]:
        return set(json.loads(clone.run("dvc", "status", "--json").stdout))

    def with_a_change(module: str) -> set[str]:
        with (clone.folder / "stages" / module).open("a", encoding="utf-8") as file:
            file.write("# changed\n")
        found = stale()
        clone.git("checkout", "-q", "--", "stages")
        return found

    assert stale() == set()
    changes = {"max_new_tokens": 9, "num_beams": 2, "tune_length_penalty": [0.7], "rerank": "mbr", "postprocess": []}
    clone.edit("params.yaml", {"decoding": changes})
    decoding = {"out_of_fold", "tune_decoding", "infer"}
    assert stale() == decoding | {"candidates"}
    clone.git("checkout", "-q", "--", "params.yaml")
    for module in ("decoding/postprocess.py", "engines/settings.py", "engines/decode_loop.py"):
        assert with_a_change(module) == decoding | {"candidates"}, module
    assert with_a_change("decoding/rerank.py") == decoding
    assert with_a_change("decoding/successive_halving.py") == {"tune_decoding", "infer"}
    # Another objective samples nothing again.
    clone.edit(
        "params.yaml", {"evaluate": {"objective": "published"}, "reward": {"length": 1.0}, "align": {"beta": 1.0}}
    )
    assert stale() == {"out_of_fold", "align", "tune_decoding", "infer", "evaluate"}
    clone.git("checkout", "-q", "--", "params.yaml")
    assert with_a_change("retraining/preferences.py") == {"align"}
    assert with_a_change("scoring/reward.py") == {"align", "tune_decoding", "evaluate"}
    # A further key is validated here, and stands under `params` where a stage reads it.
    assert with_a_change("core/params.py") == set()


def test_going_back_to_earlier_parameters_trains_nothing(clone: Clone) -> None:
    clone.edit("params.yaml", {"lora": {"r": 8}})
    log = clone.dvc("repro", "train")
    assert "Running stage" not in log
    assert "Stage 'train' is cached - skipping run, checking out outputs" in log


def test_a_learning_rate_in_scientific_notation_is_a_number(clone: Clone) -> None:
    log = clone.dvc("exp", "run", "-S", "train.learning_rate=1e-5", "train")
    assert stages_run(log) == ["train"]
    assert "learning_rate: 1e-05" in clone.bytes("params.yaml").decode()


def test_an_unknown_parameter_is_refused_before_any_work(clone: Clone) -> None:
    done = clone.run("dvc", "exp", "run", "-S", "lora.rank=8", check=False)
    assert done.returncode != 0
    assert not stages_run(done.stdout + done.stderr)
    assert clone.git("status", "--porcelain") == ""


def test_a_value_out_of_range_stops_the_first_stage_with_one_line(clone: Clone) -> None:
    done = clone.run("dvc", "exp", "run", "-S", "lora.r=0", check=False)
    log = done.stdout + done.stderr
    assert done.returncode != 0
    assert "error: params.yaml: lora.r = 0: allowed: an integer from 1 to 1024\n" in log
    assert stages_run(log) == ["train"]
    assert "Traceback" not in log


def test_a_queued_run_finds_the_key_and_leaves_no_checkpoints(clone: Clone, llm: FakeOpenAI) -> None:
    """It works in a copy of the repository that has neither `.env` nor weights."""
    before = len(llm.requests)
    # At another temperature nothing is answered yet.
    settings = ["lora.r=2", "augment.paraphrase.n=2", "augment.llm.temperature=0.5"]
    clone.dvc("exp", "run", "--queue", *(f"--set-param={setting}" for setting in settings))
    clone.dvc("queue", "start")
    status = clone.wait_for_queue()
    assert status.count("Success") == 1, status
    assert len(llm.requests) > before
    assert not list((clone.folder / "models" / "checkpoints").glob("*"))
    assert clone.git("status", "--porcelain") == ""


def test_the_tables_of_the_competition(clone: Clone) -> None:
    """Dev has one reference, test none: it is predicted and submitted, not scored."""
    for split in ("train", "dev", "test"):
        frame = pd.read_csv(clone.folder / f"data/sample/{split}.csv", dtype=str, keep_default_na=False)
        if split == "dev":
            frame = frame.rename(columns={"summary1": "summary"}).drop(columns=["summary2", "summary3"])
        if split == "test":
            frame = frame[["fname", "dialogue"]]
        frame.to_csv(clone.folder / f"data/raw/{split}.csv", index=False)
    clone.dvc("exp", "run", "-S", "data.source=data/raw")
    submission = clone.bytes("data/submission.csv").decode().splitlines()
    assert submission[0] == ",fname,summary"
    assert submission[1].startswith("0,test_0,")
    assert list(json.loads(clone.bytes("metrics/eval/metrics.json"))) == ["dev"]


def test_copies_of_the_repository_find_the_users_own_files(tmp_path: Path) -> None:
    """Tables, rules and a checkpoint that Git ignores, at the first try: no `dvc add`, no path to be copied."""
    clone = Clone(tmp_path / "repository")
    own = clone.folder / "data/raw"
    for split in ("train", "dev", "test"):
        shutil.copy(clone.folder / f"data/sample/{split}.csv", own)
    rules = clone.folder / "data/rules/mine.csv"  # a place that Git does not ignore
    shutil.copy(clone.folder / "data/rules/denoise.csv", rules)
    shutil.move(clone.folder / CHECKPOINT, own / "checkpoint")
    clone.edit("models.yaml", {"tiny": {"path": "data/raw/checkpoint"}})
    settings = ["-S", "data.source=data/raw", "-S", "clean.rules=data/rules/mine.csv"]
    log = clone.dvc("exp", "run", "--temp", "-n", "first", *settings, "clean", "fetch_model")
    assert sorted(stages_run(log)) == ["clean", "fetch_model", "find_inputs", "ingest"]
    assert "data/raw/train.csv: 12 of 80 rows kept" in log
    assert "rules from data/rules/mine.csv" in log

    [first] = [ref for ref in clone.git("for-each-ref", "--format=%(refname)", "refs/exps").split() if "/first" in ref]
    tracked = clone.git("ls-tree", "-r", "--name-only", first).split()
    assert [name for name in tracked if name.startswith("data/raw/")] == ["data/raw/.gitkeep"]
    assert not [line for line in clone.git("ls-tree", "-r", first).splitlines() if line.startswith("120000")]

    clone.git("checkout", first, "--", ".")
    dev = (own / "dev.csv").read_text(encoding="utf-8")
    (own / "dev.csv").write_text(dev + "dev_99,#Person1#: 네,가,나,다,라\n", encoding="utf-8")
    clone.dvc("exp", "run", "--queue", "-n", "second", *settings)
    clone.dvc("queue", "start")
    assert clone.wait_for_queue().count("Success") == 1
    log = clone.dvc("queue", "logs", "second")
    assert stages_run(log)[:2] == ["find_inputs", "ingest"]
    assert {"train", "infer", "evaluate"} < set(stages_run(log))
    assert "clean" not in stages_run(log)  # whose rows are the same
    assert "data/raw/dev.csv: 12 of 17 rows kept" in log
    clone.dvc("exp", "apply", "second")
    assert rules.is_file() and not rules.is_symlink()
    assert len(clone.bytes("data/submission.csv").splitlines()) == 1 + 12


ENGLISH = """\
fname,dialogue,summary
train_0,#Person1#: Hi there.,A greeting.
test_1_2,#Person1#: Bye now.,A farewell.
train_5,#Person1#: Where is my engine?,A question.
"""


def test_dvc_follows_further_training_tables(tmp_path: Path) -> None:
    """A list of parameters names what dvc.yaml cannot: a change of a table is seen, and in copies too."""
    clone = Clone(tmp_path / "repository")
    table = clone.folder / "data/raw/english.csv"
    data_stages = ["find_inputs", "ingest", "clean", "check"]

    def run() -> list[str]:
        return stages_run(clone.dvc("repro", "merge"))

    assert sorted(run()) == sorted([*data_stages, "paraphrase", "speaker_swap", "synthesize", "merge"])
    before = clone.bytes("data/merged/train.csv")
    table.write_text(ENGLISH)
    assert run() == []
    clone.edit("params.yaml", {"data": {"extra": [{"path": "data/raw/english.csv"}]}})
    assert run() == [*data_stages, "merge"]
    merged = clone.bytes("data/merged/train.csv").decode()
    # Test's own row in another language is left out; nothing is augmented that was not before.
    assert sorted(re.findall(r"^(english:\w+),.*,(\S+)$", merged, re.MULTILINE)) == [
        ("english:train_0", "extra:english"),
        ("english:train_5", "extra:english"),
    ]
    assert len(merged.splitlines()) == len(before.splitlines()) + 2
    assert run() == []
    table.write_text(ENGLISH.replace("Hi there", "Ho there"))  # as many bytes
    assert run() == [*data_stages, "merge"]
    assert "Ho there" in clone.bytes("data/merged/train.csv").decode()
    clone.commit("a further table")
    half = "data.extra=[{path:data/raw/english.csv,rows:50%}]"
    log = clone.dvc("exp", "run", "--temp", "-n", "half", "-S", half, "merge")
    assert stages_run(log) == ["find_inputs", "ingest", "merge"]
    assert "1 extra:english" in log
    [ref] = [ref for ref in clone.git("for-each-ref", "--format=%(refname)", "refs/exps").split() if "/half" in ref]
    listed = clone.git("ls-tree", "-r", ref).splitlines()
    assert [line.split()[-1] for line in listed if "data/raw/" in line or "/.found" in line] == ["data/raw/.gitkeep"]
    assert not [line for line in listed if line.startswith("120000")]

    table.rename(table.with_name("dialogsum.csv"))
    done = clone.run("dvc", "repro", "ingest", check=False)
    assert (done.returncode, "No such file or directory" in done.stderr) == (255, True)
    assert "data/.found/english.csv" in done.stderr
    clone.edit("params.yaml", {"data": {"extra": [{"path": "data/raw/dialogsum.csv"}]}})
    assert run() == [*data_stages, "merge"]
    clone.edit("params.yaml", {"data": {"extra": []}})
    (clone.folder / "data/raw/dialogsum.csv").unlink()
    run()
    assert clone.bytes("data/merged/train.csv") == before
