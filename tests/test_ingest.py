from __future__ import annotations

import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages import ingest
from stages.core import paths
from stages.corpus.tables import Split, read_table

ROOT = Path(__file__).parents[1]
SPLITS: tuple[Split, ...] = ("train", "dev", "test")


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    shutil.copytree(ROOT / "data" / "sample", tmp_path / "data" / "sample")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def set_data(source: str = "data/sample", limit: int = 0, extra: Sequence[str] = ()) -> None:
    path = Path("params.yaml")
    yaml = YAML()
    params = yaml.load(path)
    params["data"].update(source=source, limit=limit, extra=[{"path": path} for path in extra])
    yaml.dump(params, path)


def write_raw(**tables: str) -> None:
    folder = Path("data/raw")
    folder.mkdir()
    for split, text in tables.items():
        (folder / f"{split}.csv").write_text(text, encoding="utf-8", newline="")
    set_data(source="data/raw")


def test_sample_on_the_command_line(workspace: Path) -> None:
    stage = subprocess.run(
        [sys.executable, "-m", "stages.ingest"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        encoding="utf-8",
    )
    assert stage.returncode == 0
    assert stage.stderr.splitlines() == [
        "data/sample/train.csv: 80 of 80 rows kept",
        "data/sample/dev.csv: 16 of 16 rows kept",
        "data/sample/test.csv: 16 of 16 rows kept",
    ]
    for split in SPLITS:
        written = read_table(Path(f"data/ingested/{split}.csv"), split)
        assert written.equals(read_table(ROOT / f"data/sample/{split}.csv", split))
    header = Path("data/ingested/dev.csv").read_text(encoding="utf-8").splitlines()[0]
    assert header == "fname,dialogue,summary1,summary2,summary3,topic"
    assert sorted(path.name for path in workspace.iterdir()) == ["data", "metrics", "params.yaml"]
    assert sorted(path.name for path in Path("data").iterdir()) == ["ingested", "sample"]


def test_twice_gives_the_same_bytes(workspace: Path) -> None:
    def outputs() -> list[bytes]:
        return [path.read_bytes() for path in (*sorted(paths.INGESTED.iterdir()), paths.INGEST_METRICS)]

    ingest.main()
    first = outputs()
    ingest.main()
    assert outputs() == first


def test_limit_keeps_the_first_rows(workspace: Path) -> None:
    set_data(limit=20)
    ingest.main()
    train = read_table(Path("data/ingested/train.csv"), "train")
    whole = read_table(Path("data/sample/train.csv"), "train")
    assert train.equals(whole.head(20))
    facts = json.loads(paths.INGEST_METRICS.read_text())
    assert {split: (facts[split]["rows_read"], facts[split]["rows_kept"]) for split in SPLITS} == {
        "train": (80, 20),
        "dev": (16, 16),
        "test": (16, 16),
    }


def test_user_tables_in_any_column_order(workspace: Path, caplog: pytest.LogCaptureFixture) -> None:
    write_raw(
        train="\ufeff,topic,summary,dialogue,fname,source\r\n0,우산,요약 하나.,#Person1#: 비 와?,same,web\r\n",
        dev='summary,fname,dialogue\nNA,dev_0,"#Person1#: 응.\r\n#Person2#: 그래."\n',
        test="fname,dialogue\nsame,Person1：덥다.\n",
    )
    with caplog.at_level(logging.INFO):
        ingest.main()
    assert {split: Path(f"data/ingested/{split}.csv").read_bytes().decode() for split in SPLITS} == {
        "train": "fname,dialogue,summary,topic\nsame,#Person1#: 비 와?,요약 하나.,우산\n",
        "dev": 'fname,dialogue,summary\ndev_0,"#Person1#: 응.\r\n#Person2#: 그래.",NA\n',
        "test": "fname,dialogue\nsame,Person1：덥다.\n",
    }
    assert caplog.messages == [
        "data/raw/train.csv: columns ignored (1): (unnamed)",
        "data/raw/train.csv: 1 of 1 rows kept",
        "data/raw/train.csv: columns ignored (1): source, which merging writes",
        "data/raw/dev.csv: 1 of 1 rows kept",
        "data/raw/test.csv: 1 of 1 rows kept",
        "data/raw: 1 fnames occur in more than one table, first same",
    ]
    assert json.loads(paths.INGEST_METRICS.read_text()) == {
        "train": {
            "rows_read": 1,
            "rows_kept": 1,
            "columns_ignored": 2,
            "dialogue_characters": 15.0,
            "summary_characters": 6.0,
        },
        "dev": {
            "rows_read": 1,
            "rows_kept": 1,
            "columns_ignored": 0,
            "dialogue_characters": 29.0,
            "summary_characters": 2.0,
        },
        "test": {"rows_read": 1, "rows_kept": 1, "columns_ignored": 0, "dialogue_characters": 11.0},
    }


def test_further_tables_become_one_and_each_row_tells_its_own(
    workspace: Path, caplog: pytest.LogCaptureFixture
) -> None:
    Path("english.csv").write_text(
        "fname,dialogue,summary,topic\ntrain_0,#Person1#: Hi.,A greeting.,talk\ntrain_1,#Person1#: Bye.,Farewell.,end\n"
    )
    Path("older.csv").write_text("dialogue,fname,summary,source\n#Person1#: 안녕.,train_0,인사,web\n", encoding="utf-8")
    set_data(limit=1, extra=["older.csv", "english.csv"])
    with caplog.at_level(logging.INFO):
        ingest.main()
    assert Path("data/ingested/extra.csv").read_text(encoding="utf-8").splitlines() == [
        "fname,dialogue,summary,topic,source",
        "older:train_0,#Person1#: 안녕.,인사,,extra:older",
        "english:train_0,#Person1#: Hi.,A greeting.,talk,extra:english",
    ]
    facts = json.loads(paths.INGEST_METRICS.read_text())
    assert list(facts) == ["train", "dev", "test", "extra:older", "extra:english"]
    assert facts["extra:english"] == {
        "rows_read": 2,
        "rows_kept": 1,
        "columns_ignored": 0,
        "dialogue_characters": 14.0,
        "summary_characters": 11.0,
    }
    assert caplog.messages[-3:] == [
        "older.csv: 1 of 1 rows kept",
        "older.csv: columns ignored (1): source, which merging writes",
        "english.csv: 1 of 2 rows kept",
    ]


def test_without_further_tables_theirs_is_empty(workspace: Path) -> None:
    ingest.main()
    assert Path("data/ingested/extra.csv").read_text() == "fname,dialogue,summary,topic,source\n"
    assert list(json.loads(paths.INGEST_METRICS.read_text())) == ["train", "dev", "test"]
