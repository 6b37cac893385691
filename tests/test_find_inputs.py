from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.find_inputs import main
from tests.tiny_project import ROOT, configure

SPLITS = ("train", "dev", "test")


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder: a copy of a repository, as DVC makes it for a queued experiment."""
    repository, folder = tmp_path / "repository", tmp_path / "repository/.dvc/tmp/exps/tmp1"
    for split in SPLITS:
        write(repository / f"data/raw/{split}.csv", f"own {split}")
    write(repository / "rules/own.csv", "own rules")
    for tracked in ("data/sample/train.csv", "data/sample/dev.csv", "data/sample/test.csv", "data/rules/denoise.csv"):
        write(folder / tracked, "tracked")
    shutil.copy(ROOT / "params.yaml", folder)
    monkeypatch.chdir(folder)
    monkeypatch.setenv("DVC_ROOT", str(repository))
    return folder


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_the_users_files_are_read_where_they_are(copy: Path) -> None:
    configure(data={"source": "data/raw"}, clean={"rules": "rules/own.csv"})
    main()
    assert {split: Path(f"data/raw/{split}.csv").read_text() for split in SPLITS} == {
        split: f"own {split}" for split in SPLITS
    }
    assert Path("rules/own.csv").read_text() == "own rules"
    write(copy.parents[3] / "data/raw/dev.csv", "changed")
    assert Path("data/raw/dev.csv").read_text() == "changed"


def test_git_overlooks_the_links(copy: Path) -> None:
    """DVC would commit them with the experiment, and put them in the files' place where it is applied."""
    subprocess.run(["git", "init", "-q"], check=True)
    subprocess.run(["git", "add", "."], check=True)
    rules = r"rules/own [*] \ file.csv"
    write(copy.parents[3] / rules, "own rules")
    configure(data={"source": "data/raw"}, clean={"rules": rules})
    main()
    status = subprocess.run(["git", "status", "--porcelain", "-uall"], check=True, capture_output=True, text=True)
    assert [line for line in status.stdout.splitlines() if line.startswith("??")] == [
        "?? data/.found/README",
        "?? models/.found/README",
    ]
    assert Path(rules).read_text() == "own rules"


def test_a_folder_beside_the_repository(copy: Path) -> None:
    for split in SPLITS:
        write(copy.parents[4] / f"tables/{split}.csv", "beside")
    configure(data={"source": "../tables"})
    main()
    assert Path("../tables/train.csv").read_text() == "beside"


def test_further_tables_are_linked_to_for_dvc_to_watch(copy: Path) -> None:
    repository = copy.parents[3]
    write(repository / "data/raw/english.csv", "english")
    write(repository.parent / "tables/older.csv", "older")
    configure(data={"extra": [{"path": "data/raw/english.csv"}, {"path": str(repository.parent / "tables/older.csv")}]})
    for _ in range(2):
        main()
        assert {path.name: path.read_text() for path in Path("data/.found").iterdir()} == {
            "README": "Tables and rules are within reach.\n",
            "english.csv": "english",
            "older.csv": "older",
        }
        write(repository / "data/raw/english.csv", "English")  # which is the file that all links lead to
        assert Path("data/.found/english.csv").read_text() == Path("data/raw/english.csv").read_text() == "English"
        write(repository / "data/raw/english.csv", "english")


def test_adapters_of_an_ensemble_are_linked_to_for_dvc_to_watch(copy: Path) -> None:
    repository = copy.parents[3]
    for folder in (repository / "models/twin", repository.parent / "beside"):
        write(folder / "adapter_model.safetensors", f"weights of {folder.name}")
        write(folder / "prompt.json", "{}")
    ensemble = ["models/twin", "an-experiment", "../beside"]
    configure(decoding={"rerank": "mbr", "ensemble": ensemble})
    for _ in range(2):
        main()
        found = Path("models/.found")
        assert {str(path.relative_to(found)): path.read_text() for path in found.rglob("*") if path.is_file()} == {
            "README": "Links to the folders of decoding.ensemble.\n",
            "0/adapter_model.safetensors": "weights of twin",
            "0/prompt.json": "{}",
            "2/adapter_model.safetensors": "weights of beside",
            "2/prompt.json": "{}",
        }
    write(repository / "models/twin/adapter_model.safetensors", "others")
    assert (found / "0/adapter_model.safetensors").read_text() == "others"


def test_files_that_git_tracks_are_those_of_the_copy(copy: Path) -> None:
    main()
    assert not any(path.is_symlink() for path in copy.rglob("*"))
    assert [path.name for path in Path("data/.found").iterdir()] == ["README"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"data": {"source": "data/none"}},
            "data/none/train.csv: not found; put the table there or set data.source to its folder",
        ),
        ({"clean": {"rules": "none.csv"}}, "none.csv: not found; set clean.rules to a table of rules"),
        (
            {"data": {"extra": [{"path": "data/none.csv"}]}},
            "data/none.csv: not found; put the table there or take it out of data.extra",
        ),
    ],
)
def test_a_file_that_is_nowhere(copy: Path, settings: dict[str, dict[str, str]], message: str) -> None:
    configure(**settings)
    with pytest.raises(UserError) as caught:
        main()
    assert str(caught.value) == message
    assert not Path("data/.found").exists()
