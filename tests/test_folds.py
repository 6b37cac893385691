from __future__ import annotations

import random
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from stages import folds, out_of_fold
from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import read_json, remove
from stages.core.params import load_params
from stages.corpus.tables import read_table
from stages.engines.settings import fixed_settings
from stages.models.load import load_for_generation
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer
from stages.retraining import fold
from stages.scoring.objective import Objective
from stages.serving.summarize import summarize
from stages.training import session
from stages.training.data import training_data
from tests.test_train import Killed, die_after_step
from tests.tiny_project import configure, end, kill, start_stage

CHECKPOINTS = Path("models/checkpoints")


def outputs() -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(paths.FOLDS.rglob("*")) if path.is_file()}


def fold_of() -> dict[str, int]:
    return {row.fname: int(row.fold) for row in pd.read_csv(paths.FOLD_ROWS, dtype=str).itertuples()}


@pytest.fixture
def one_process(monkeypatch: pytest.MonkeyPatch) -> None:
    """Folds are trained in the test's own process, which has the libraries already."""

    def in_turn(commands: Mapping[str, Sequence[str]], devices: object, log: object, label: str) -> None:
        for _, _, module, number in commands.values():
            assert module == "stages.folds"
            folds.main([number])

    monkeypatch.setattr(folds, "run_side_by_side", in_turn)
    monkeypatch.setattr(folds, "end_with_parent", lambda: None)


@pytest.fixture
def project(tiny_project: Path, one_process: None) -> None:
    """A project with two folds."""
    configure(folds={"n": 2}, train={"epochs": 1, "preview_samples": 0}, lora={"dropout": 0.2})


@pytest.fixture
def learned(monkeypatch: pytest.MonkeyPatch) -> list[pd.DataFrame]:
    """The tables that adapters are trained on, as they are."""
    tables: list[pd.DataFrame] = []

    def spied(params: Any, base: Any, train: pd.DataFrame, dev: pd.DataFrame) -> Any:
        tables.append(train)
        return training_data(params, base, train, dev)

    monkeypatch.setattr(fold, "training_data", spied)
    return tables


def test_no_adapter_has_seen_a_row_of_its_fold_nor_a_copy_of_one(project: None, learned: list[pd.DataFrame]) -> None:
    folds.main([])
    merged = read_table(paths.MERGED, "train")
    of = fold_of()
    assert sorted(of) == sorted(merged["fname"][merged["source"] == "original"])
    assert sorted(of.values()) == [0] * 6 + [1] * 6
    for number, table in enumerate(learned):
        seen = set(table["fname"])
        assert not {fname for fname in seen if of[fname.removesuffix(".swap")] == number}
        dialogues = set(merged["dialogue"][merged["fname"].map(lambda fname, n=number: of.get(fname) == n)])
        assert not dialogues & set(table["dialogue"])
        assert len(seen) + len([fname for fname in merged["fname"] if of[fname.removesuffix(".swap")] == number]) == 14
    assert sorted(path.name for path in paths.FOLDS.iterdir()) == ["0", "1", "rows.csv"]
    card = (paths.FOLDS / "1/README.md").read_text(encoding="utf-8")
    assert "- Fold 2 of 2, with 6 original rows held out. Best step: " in card
    assert (paths.FOLDS / "0/adapter_model.safetensors").read_bytes() != (
        paths.FOLDS / "1/adapter_model.safetensors"
    ).read_bytes()


def test_examples_of_a_prompt_are_rows_that_the_adapter_may_see(project: None) -> None:
    configure(prompt={"few_shot": 2, "max_tokens": 1800})
    folds.main([])
    for number in range(2):
        examples = PromptSettings.load(paths.FOLDS / str(number)).examples
        assert len(examples) == 2
        assert all(fold_of()[example.fname] != number for example in examples)


@pytest.mark.parametrize("number", [0, 1])
def test_an_interrupted_fold_goes_on_and_a_trained_one_stays(
    number: int, project: None, learned: list[pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    folds.main([])
    whole = outputs()
    remove(paths.FOLDS)
    remove(CHECKPOINTS)
    learned.clear()
    train_fold = fold.train_fold

    def dies(params: Any, of: Mapping[str, int], which: int) -> None:
        with monkeypatch.context() as patch:
            if which == number:
                patch.setattr(session, "Speedometer", die_after_step(2))
            train_fold(params, of, which)

    with monkeypatch.context() as patch:
        patch.setattr(fold, "train_fold", dies)
        with pytest.raises(Killed):
            folds.main([])
    assert not paths.FOLDS.exists()
    assert len(learned) == number + 1
    folds.main([])
    assert outputs() == whole
    assert len(learned) == 3, "of two folds one began again"


def test_what_is_trained_stays_until_the_next_stage_has_it(project: None, learned: list[pd.DataFrame]) -> None:
    """The stage may be killed before DVC has taken its outputs in."""
    folds.main([])
    whole = outputs()
    remove(paths.FOLDS)
    folds.main([])
    assert outputs() == whole
    assert len(learned) == 2, "nothing was trained again"
    assert len(list(CHECKPOINTS.glob("*/adapter"))) == 2
    out_of_fold.main()
    assert list(CHECKPOINTS.iterdir()) == []


def test_a_fold_that_was_being_removed_is_trained_anew(
    project: None, learned: list[pd.DataFrame], monkeypatch: pytest.MonkeyPatch
) -> None:
    folds.main([])
    whole = outputs()
    [gone, _] = CHECKPOINTS.glob("*/adapter")
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda path: (path / "adapter/adapter_model.safetensors").unlink())
        remove(gone.parent)
    folds.main([])
    assert outputs() == whole
    assert len(learned) == 3


def test_each_row_is_summarized_by_the_adapter_that_has_not_seen_it(project: None) -> None:
    configure(quantization={"load_in_4bit": False, "compute_dtype": "float32"}, decoding={"min_hangul": 0.0})
    folds.main([])
    out_of_fold.main()
    params = load_params()
    found = pd.read_csv(paths.OUT_OF_FOLD, dtype=str, keep_default_na=False)
    assert {row.fname: int(row.fold) for row in found.itertuples()} == fold_of()
    merged = read_table(paths.MERGED, "train").set_index("fname")
    for number in range(2):
        adapter = paths.FOLDS / str(number)
        model = load_for_generation(paths.MANIFEST, adapter, params.quantization)
        builder = PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(adapter))
        rows = found[found["fold"] == str(number)]
        settings = fixed_settings(params.decoding)
        texts = [merged.loc[fname, "dialogue"] for fname in rows["fname"]]
        assert summarize(model, builder, texts, settings, batch_size=1, label="test") == rows["summary"].tolist()
    scores = read_json(paths.FOLD_SCORES)
    by_row = Objective("balanced").rows(found["summary"], [[merged.loc[name, "summary"]] for name in found["fname"]])
    assert scores["final"] == round(sum(by_row) / 12, 4)
    assert [each["rows"] for each in scores["folds"]] == [6, 6]
    assert list(CHECKPOINTS.iterdir()) == []
    assert scores["out_of_fold"]["morpheme"].keys() >= {"rouge1", "rouge2", "rougeL", "final", "final_low"}
    assert not list(Path("models/partial").glob("*.jsonl"))


def test_without_folds_nothing_is_trained_and_outputs_are_empty(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    heavy = [name for name in sys.modules if name.startswith("stages.retraining.")]
    for name in heavy:
        if name != "stages.retraining.side_by_side":
            monkeypatch.setitem(sys.modules, name, None)  # an import of it would fail
    folds.main([])
    out_of_fold.main()
    assert outputs() == {"models/folds/rows.csv": b"fname,fold\n"}
    assert paths.OUT_OF_FOLD.read_bytes() == b"fname,summary,fold\n"
    assert read_json(paths.FOLD_SCORES) == {}


def test_more_folds_than_rows_that_differ(project: None) -> None:
    configure(folds={"n": 13})
    with pytest.raises(UserError, match=r"folds\.n = 13: the table has 12 original rows that differ; lower it"):
        folds.main([])


@pytest.mark.slow
def test_killed_at_any_moment_they_end_in_the_same_bytes(tiny_project: Path) -> None:
    """SIGKILL of the stage alone: the process that trains a fold ends with it."""
    configure(folds={"n": 2}, train={"epochs": 3, "preview_samples": 0}, lora={"dropout": 0.2})
    end(start_stage("folds"))
    whole = outputs()
    remove(paths.FOLDS)
    remove(CHECKPOINTS)

    def progress() -> int:
        return len(list(CHECKPOINTS.glob("*/checkpoint-*"))) + 100 * len(list(CHECKPOINTS.glob("*/adapter")))

    for _ in range(2):
        before = progress()
        stage = start_stage("folds", KILLED_ALONE="1")
        while progress() <= before and stage.poll() is None:
            time.sleep(0.01)
        time.sleep(random.uniform(0, 0.5))
        kill(stage)
    end(start_stage("folds"))
    assert outputs() == whole
    assert not list(CHECKPOINTS.glob("*/checkpoint-*"))
