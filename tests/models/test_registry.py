from __future__ import annotations

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from stages.core.errors import UserError
from stages.core.params import load_params, read_yaml
from stages.models.registry import HubEntry, PackageEntry, read_entry

ROOT = Path(__file__).parents[2]
REGISTRY = ROOT / "models.yaml"
NAMES = list(read_yaml(REGISTRY))
CONTRACT = ["gemma3-270m", "solar-10b", "llama3-8b", "qwen2-5-7b", "qwen3-14b", "exaone-7b"]
HUB = {
    "source": "hub",
    "repo": "tests/tiny",
    "revision": "main",
    "prompt": "chat",
    "max_length": 2048,
    "licence": "apache-2.0",
}
PACKAGE = HUB | {"source": "package", "package": "tiny_gguf", "file": "tiny.gguf", "sha256": "0" * 64}
LOCAL = {"source": "local", "path": "models/mine", "prompt": "plain", "max_length": 2048, "licence": "mine"}


def registry(folder: Path, **entries: Any) -> Path:
    path = folder / "models.yaml"
    YAML(typ="safe", pure=True).dump(entries, path)
    return path


def without(entry: dict[str, Any], key: str) -> dict[str, Any]:
    return {name: value for name, value in entry.items() if name != key}


@pytest.mark.parametrize("name", NAMES)
def test_entry_of_the_repository(name: str, tmp_path: Path) -> None:
    entry = read_entry(name, REGISTRY)
    assert isinstance(entry, (HubEntry, PackageEntry))
    assert entry.revision == "main" or re.fullmatch("[0-9a-f]{40}", entry.revision)
    assert len(set(entry.revision)) > 2, "a commit that nobody made"
    assert re.fullmatch(r"[\w.-]+/[\w.-]+", entry.repo)
    assert entry.max_length >= 4096
    # DVC would take a dot for the end of a key, and params.yaml refuses the name.
    params = tmp_path / "params.yaml"
    text = (ROOT / "params.yaml").read_text(encoding="utf-8")
    params.write_text(text.replace("name: gemma3-270m", f"name: {name}"), encoding="utf-8")
    assert load_params(params).model.name == name


def test_contract() -> None:
    assert [name for name in CONTRACT if name not in NAMES] == []
    assert load_params(ROOT / "params.yaml").model.name in NAMES


def test_embedded_model_is_the_pinned_file() -> None:
    entry = read_entry("gemma3-270m", REGISTRY)
    assert isinstance(entry, PackageEntry)
    package = import_module(entry.package)
    assert (entry.file, entry.sha256) == (package.MODEL_NAME, package.EXPECTED_SHA256)
    assert entry.prompt == "plain"


@pytest.mark.parametrize("entry", [HUB, PACKAGE, LOCAL, HUB | {"stop_token": "<end_of_turn>"}])
def test_valid_entry(entry: dict[str, Any], tmp_path: Path) -> None:
    assert read_entry("mine", registry(tmp_path, mine=entry)).model_dump(exclude_none=True) == entry


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({}, "mine.source = null: allowed: package, hub, local"),
        (8, "mine.source = null: allowed: package, hub, local"),
        (HUB | {"source": "github"}, 'mine.source = "github": allowed: package, hub, local'),
        (HUB | {"source": ["hub"]}, 'mine.source = ["hub"]: allowed: package, hub, local'),
        (without(HUB, "revision"), "mine.revision: missing; allowed: a text that is not empty"),
        (without(LOCAL, "path"), "mine.path: missing; allowed: a text that is not empty"),
        (HUB | {"revision": 5}, "mine.revision = 5: allowed: a text that is not empty"),
        (HUB | {"prompt": "chatml"}, 'mine.prompt = "chatml": allowed: plain, chat'),
        (HUB | {"max_length": 0}, "mine.max_length = 0: allowed: an integer of at least 1"),
        (HUB | {"max_length": "8k"}, 'mine.max_length = "8k": allowed: an integer of at least 1'),
        (HUB | {"stop_token": ""}, 'mine.stop_token = "": allowed: one of the tokenizer\'s tokens'),
        (PACKAGE | {"sha256": "A5FD"}, 'mine.sha256 = "A5FD": allowed: 64 hexadecimal digits in lower case'),
        (
            HUB | {"path": "models/mine"},
            'mine.path = "models/mine": unknown key; '
            "allowed: prompt, stop_token, max_length, licence, source, repo, revision",
        ),
    ],
)
def test_broken_entry(entry: Any, message: str, tmp_path: Path) -> None:
    path = registry(tmp_path, other=HUB, mine=entry)
    with pytest.raises(UserError) as error:
        read_entry("mine", path)
    assert str(error.value) == f"{path}: {message}"
    assert read_entry("other", path).licence == "apache-2.0"


def test_unknown_model(tmp_path: Path) -> None:
    path = registry(tmp_path, tiny=HUB, solar=HUB)
    with pytest.raises(UserError) as error:
        read_entry("solar-10b", path)
    assert str(error.value) == f'params.yaml: model.name = "solar-10b": not in {path}; allowed: solar, tiny'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, ": not found; run from the repository's top folder"),
        (b"", ": holds no keys; restore it with `git checkout models.yaml`"),
        (
            b"tiny: {}\ntiny: {}\n",
            ': not valid YAML: line 2: found duplicate key "tiny" with value "{}" (original value: "{}")',
        ),
        ("tiny: 작은 모델".encode("cp949"), ": not UTF-8; save it as UTF-8"),
    ],
)
def test_broken_registry(content: bytes | None, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    if content is not None:
        Path("models.yaml").write_bytes(content)
    with pytest.raises(UserError) as error:
        read_entry("tiny")
    assert str(error.value) == f"models.yaml{message}"
