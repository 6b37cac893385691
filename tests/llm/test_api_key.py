from __future__ import annotations

from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.llm.api_key import read_key
from tests.fake_openai import KEY


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, no DVC, and the key in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("UPSTAGE_API_KEY", KEY)


def test_key_is_looked_for_in_the_environment_then_dvc_root_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / ".env").write_text("UPSTAGE_API_KEY=from-root\n", encoding="utf-8")
    Path(".env").write_text('UPSTAGE_API_KEY="from-here$HOME"\n', encoding="utf-8-sig")
    assert read_key("UPSTAGE_API_KEY") == KEY
    monkeypatch.setenv("UPSTAGE_API_KEY", "")
    assert read_key("UPSTAGE_API_KEY") == "from-here$HOME"
    monkeypatch.setenv("DVC_ROOT", str(root))
    assert read_key("UPSTAGE_API_KEY") == "from-root"
    assert read_key("OTHER_KEY") is None


@pytest.mark.parametrize("key", ["여기에 키", "two words", "line\nbreak"])
def test_key_that_cannot_be_sent_is_refused_unquoted(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTAGE_API_KEY", key)
    with pytest.raises(UserError) as error:
        read_key("UPSTAGE_API_KEY")
    assert str(error.value) == (
        "UPSTAGE_API_KEY: holds a space or a character that no API key has; check .env and the environment"
    )


def test_dotenv_that_is_not_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UPSTAGE_API_KEY")
    Path(".env").write_bytes("# 열쇠\nUPSTAGE_API_KEY=k\n".encode("cp949"))
    with pytest.raises(UserError) as error:
        read_key("UPSTAGE_API_KEY")
    assert str(error.value) == ".env: not UTF-8; save it as UTF-8"
