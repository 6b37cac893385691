from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from stages import merge
from stages.common.errors import run_stage
from stages.common.tables import read_table

ROOT = Path(__file__).parents[1]
HEADER = "fname,dialogue,summary,topic,source\n"


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three original rows without topics, and two augmented ones."""
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    tables = {
        "clean/train": "fname,dialogue,summary\n"
        + "".join(f'train_{i},"#Person1#: {i}\n#Person2#: 네",요약 {i}\n' for i in range(3)),
        "augmented/paraphrase": HEADER,
        "augmented/speaker_swap": HEADER + "train_1.swap,#Person1#: 네,요약,주제,speaker_swap\n",
        "augmented/synthetic": HEADER + "synthetic_0,#Person1#: 새로,요약,주제,synthetic\n",
    }
    for name, text in tables.items():
        path = tmp_path / "data" / f"{name}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8", newline="")
    return tmp_path


def set_seed(seed: int) -> None:
    yaml = YAML()
    params = yaml.load(Path("params.yaml"))
    params["seed"] = seed
    yaml.dump(params, Path("params.yaml"))


def test_every_row_is_there_once_with_its_source(workspace: Path) -> None:
    merge.main()
    merged = read_table(merge.MERGED, "train")
    assert list(merged.columns) == ["fname", "dialogue", "summary", "topic", "source"]
    assert sorted(map(tuple, merged.to_numpy().tolist())) == [
        ("synthetic_0", "#Person1#: 새로", "요약", "주제", "synthetic"),
        ("train_0", "#Person1#: 0\n#Person2#: 네", "요약 0", "", "original"),
        ("train_1", "#Person1#: 1\n#Person2#: 네", "요약 1", "", "original"),
        ("train_1.swap", "#Person1#: 네", "요약", "주제", "speaker_swap"),
        ("train_2", "#Person1#: 2\n#Person2#: 네", "요약 2", "", "original"),
    ]
    assert (
        merge.METRICS.read_text()
        == json.dumps({"original": 3, "paraphrase": 0, "speaker_swap": 1, "synthetic": 1, "total": 5}, indent=2) + "\n"
    )


def test_the_order_depends_on_the_seed_alone(workspace: Path) -> None:
    def order(seed: int) -> tuple[str, ...]:
        set_seed(seed)
        merge.main()
        return tuple(read_table(merge.MERGED, "train")["fname"])

    assert order(42) == order(42)
    assert len({order(seed) for seed in range(8)}) > 4


def test_without_augmentation_the_originals_remain(workspace: Path) -> None:
    for path in Path("data/augmented").iterdir():
        path.write_text(HEADER)
    merge.main()
    assert set(read_table(merge.MERGED, "train")["fname"]) == {"train_0", "train_1", "train_2"}
    assert json.loads(merge.METRICS.read_text())["total"] == 3


def test_an_fname_in_two_tables_is_an_error(workspace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/augmented/synthetic.csv").write_text(HEADER + "train_1,#Person1#: 새로,요약,주제,synthetic\n")
    with pytest.raises(SystemExit) as stop:
        run_stage(merge.main)
    assert stop.value.code == 1
    assert capsys.readouterr().err == (
        "error: data/augmented/synthetic.csv: row train_1, column fname: data/clean/train.csv has it too; "
        "give each row a name of its own\n"
    )
    assert not Path("data/merged").exists()
    assert not Path("metrics").exists()
