from __future__ import annotations

import os
from pathlib import Path

import pytest

from stages.core.env_file import load_env_file, variable
from stages.core.errors import UserError


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A working folder with `.env`, and no DVC."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HOME"):
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    Path(".env").write_text('HF_TOKEN="from-here$HOME"\nHF_ENDPOINT=\n', encoding="utf-8-sig")


def test_the_environment_comes_first_then_the_users_repository_then_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert variable("HF_TOKEN") == "from-here$HOME"
    assert variable("HF_ENDPOINT") is None
    root = tmp_path / "root"
    root.mkdir()
    monkeypatch.setenv("DVC_ROOT", str(root))
    assert variable("HF_TOKEN") == "from-here$HOME"
    (root / ".env").write_text("HF_TOKEN=from-root\n", encoding="utf-8")
    assert variable("HF_TOKEN") == "from-root"
    monkeypatch.setenv("HF_TOKEN", "set")
    assert variable("HF_TOKEN") == "set"


def test_libraries_find_what_is_not_set_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HOME", "set")
    Path(".env").write_text("HF_TOKEN=read\nHF_ENDPOINT=\nHF_HOME=read\n", encoding="utf-8")
    load_env_file()
    assert {name: os.environ.get(name) for name in ("HF_TOKEN", "HF_ENDPOINT", "HF_HOME")} == {
        "HF_TOKEN": "read", "HF_ENDPOINT": None, "HF_HOME": "set",
    }  # fmt: skip


def test_a_file_that_is_not_utf8() -> None:
    Path(".env").write_bytes("# 열쇠\nHF_TOKEN=k\n".encode("cp949"))
    with pytest.raises(UserError, match=r"^\.env: not UTF-8; save it as UTF-8$"):
        load_env_file()
