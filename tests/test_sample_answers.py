"""The answers that the repository comes with fit its sample, its prompts and its parameters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from stages import check, clean, ingest, paraphrase, synthesize
from stages.core import paths
from stages.core.params import load_params
from stages.corpus.tables import read_table
from tests.fake_openai import ROOT, Workspace


def test_the_default_run_asks_for_nothing_and_rejects_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A changed prompt, cleaning rule or sample row needs new answers: without a key, rows would be left out."""
    Workspace(tmp_path, monkeypatch)
    for name in ("sample", "rules", "answers"):
        shutil.copytree(ROOT / "data" / name, tmp_path / "data" / name)
    for stage in (ingest, clean, check, paraphrase, synthesize):
        stage.main()
    augment = load_params().augment
    for path, n in ((paths.PARAPHRASES, augment.paraphrase.n), (paths.SYNTHETIC, augment.synthesize.n)):
        assert len(read_table(path, "train", allow_empty=True)) == n
        assert json.loads(path.with_suffix(".json").read_text())["rejected"] == {}


def test_a_small_run_takes_what_is_answered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`dvc exp run -S data.limit=16` needs no key: other rows are chosen, and few-shot examples are others."""
    workspace = Workspace(tmp_path, monkeypatch)
    workspace.set_params({"data.limit": 16, "augment.llm.without_key": "skip"})
    for name in ("sample", "rules", "answers"):
        shutil.copytree(ROOT / "data" / name, tmp_path / "data" / name)
    for stage in (ingest, clean, check, paraphrase, synthesize):
        stage.main()
    answered = {line["fname"] for line in read_table(paths.PARAPHRASES, "train").to_dict("records")}
    first = {f"{fname}.para" for fname in read_table(Path("data/checked/train.csv"), "train")["fname"]}
    assert answered
    assert answered <= first
    assert len(read_table(paths.SYNTHETIC, "train", allow_empty=True)) == 0
