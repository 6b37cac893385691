from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from stages.core.params import Llm
from tests.fake_openai import KEY, FakeOpenAI
from tests.llm_settings import llm_settings


@pytest.fixture
def settings(server: FakeOpenAI) -> Callable[..., Llm]:
    """`augment.llm` with the address of the test's fake server; keywords change it."""
    return lambda **changes: llm_settings(**({"base_url": server.base_url} | changes))


@pytest.fixture
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, no DVC, and the key in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("UPSTAGE_API_KEY", KEY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data/answers/test.jsonl"
