from __future__ import annotations

import io
import re
import sys
import unicodedata
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import pandas as pd
import pytest

from stages import infer, summarize, train
from stages.cleaning.rules import clean_dialogue, load_rules
from stages.cleaning.typo_pass import fix_typos
from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import write_json
from stages.core.params import load_params
from stages.corpus.tables import read_table, write_table
from stages.engines.settings import DecodingSettings
from stages.serving.summarizer import Summarizer
from tests.tiny_project import ROOT, configure

TEST = Path("data/checked/test.csv")


def predict() -> None:
    """All that comes before `summarize`, on a table that is cleaned as it cleans."""
    configure(
        quantization={"load_in_4bit": False, "compute_dtype": "float32"},
        train={"epochs": 0.25, "preview_samples": 0},
        clean={"rules": str(ROOT / "data/rules/denoise.csv")},
        decoding={"min_hangul": 0.0},
    )
    train.main()
    rules, table = load_rules(ROOT / "data/rules/denoise.csv"), read_table(TEST, "test")
    clean = partial(clean_dialogue, rules=rules, fix_spacing=True)
    corrected = fix_typos([clean(text) for text in table["dialogue"]], load_params().clean.typo_threshold, clean)
    write_table(table.assign(dialogue=[text for text, _ in corrected]), TEST)
    write_json(paths.DECODING, {"chosen": asdict(DecodingSettings(max_new_tokens=24, num_beams=2))})
    infer.main()


@pytest.fixture
def finished(project_after: Callable[..., Path]) -> pd.DataFrame:
    """A project that has predicted: its test rows with their summaries."""
    project_after(predict)
    return read_table(TEST, "test").merge(
        pd.read_csv(paths.PREDICTIONS / "test.csv", keep_default_na=False), on="fname"
    )


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str, stdin: str = "") -> None:
    monkeypatch.setattr(sys, "argv", ["summarize", *arguments])
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin.encode())))
    summarize.main()


def test_one_dialogue_is_summarized_as_infer_does(
    finished: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, stdin=finished["dialogue"][0])
    assert capsys.readouterr().out == finished["summary"][0] + "\n"
    # As it comes from elsewhere: cleaning makes it the same dialogue.
    Path("mine.txt").write_text("\ufeff" + finished["dialogue"][1].replace("\n", " \r\n") + "\n", encoding="utf-8")
    run(monkeypatch, "mine.txt")
    assert capsys.readouterr().out == finished["summary"][1] + "\n"


def test_a_dialogue_is_cleaned_as_the_tables_are(finished: pd.DataFrame) -> None:
    summarizer = Summarizer.load(load_params())
    assert summarizer.clean("Person1:  몇일 걸려?\r\n#Person2#: 사흘이요 .", "here") == (
        "#Person1#: 며칠 걸려?\n#Person2#: 사흘이요."
    )
    decomposed = unicodedata.normalize("NFD", "#Person1#: 몇일 걸려?")
    assert summarizer.clean(decomposed, "here") == "#Person1#: 며칠 걸려?"


def test_a_table_is_summarized_as_infer_does(
    finished: pd.DataFrame, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(monkeypatch, "data/checked/test.csv")
    found = pd.read_csv(io.StringIO(capsys.readouterr().out), keep_default_na=False)
    assert found.to_dict("list") == finished[["fname", "summary"]].to_dict("list")


def test_a_terminal_shows_the_summary_as_it_grows(finished: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    pieces: list[str] = []
    monkeypatch.setattr("builtins.print", lambda *texts, end="\n", **_: pieces.append("".join(texts) + end))
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    run(monkeypatch, stdin=finished["dialogue"][0])
    assert len(pieces) > 2
    assert "".join(pieces).split("\n")[-2] == finished["summary"][0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "mine.txt: no turn; begin each with #Person1#: or #Person2#: on a line of its own"),
        ("안녕하세요.", "mine.txt: no turn; begin each with #Person1#: or #Person2#: on a line of its own"),
    ],
)
def test_what_is_no_dialogue_is_one_line(
    text: str, message: str, finished: pd.DataFrame, monkeypatch: pytest.MonkeyPatch
) -> None:
    Path("mine.txt").write_text(text, encoding="utf-8")
    with pytest.raises(UserError, match=f"^{re.escape(message)}$"):
        run(monkeypatch, "mine.txt")


def test_files_that_cannot_be_read(finished: pd.DataFrame, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^nothing\.txt: cannot be read"):
        run(monkeypatch, "nothing.txt")
    Path("latin.txt").write_bytes("#Person1#: 안녕".encode("euc-kr"))
    with pytest.raises(UserError, match=r"^latin\.txt: not UTF-8; save it as UTF-8$"):
        run(monkeypatch, "latin.txt")


def test_before_the_first_run(tiny_project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match=r"^models/adapter: not found; run `make repro`"):
        run(monkeypatch, stdin="#Person1#: 안녕")
