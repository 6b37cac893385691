"""Every command of the README is run, in its order, on a small copy of the repository."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest

from tests.clone import ROOT, Clone
from tests.fake_hub import FakeHub
from tests.tiny import build_tiny_checkpoint

RUNNABLE = ("make ", "dvc ", "python ", "source ")


def commands(readme: str) -> list[str]:
    """The commands of the shell blocks and of the text, in their order, each once; one with a NAME is a pattern."""
    text = (ROOT / readme).read_text(encoding="utf-8")
    found: list[str] = []
    for match in re.finditer(r"```bash\n(.*?)```|`([^`\n]+)`", text, re.DOTALL):
        lines = match[1].splitlines() if match[1] else [match[2]]
        found.extend(line.strip() for line in lines if line.startswith(RUNNABLE))
    return [command for command in dict.fromkeys(found) if "NAME" not in command]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeHub]:
    with FakeHub() as hub:
        chat = build_tiny_checkpoint(tmp_path_factory.mktemp("hub"), chat=True)
        hub.commit("Qwen/Qwen2.5-7B-Instruct", {path.name: path.read_bytes() for path in chat.iterdir()})
        yield hub


@pytest.fixture(scope="module")
def clone(with_llm: Clone) -> Iterator[Clone]:
    with_llm.restore()
    for split in ("train", "dev", "test"):
        (with_llm.folder / f"data/raw/{split}.csv").write_bytes(with_llm.bytes(f"data/sample/{split}.csv"))
    own = with_llm.folder / "dialogue.txt"
    own.write_text("#Person1#: 몇 시에 와?\n#Person2#: 세 시.\n", encoding="utf-8")
    yield with_llm
    own.unlink(missing_ok=True)


def test_both_languages_have_the_same_commands() -> None:
    assert commands("README.ko.md") == commands("README.md")


@pytest.mark.slow
@pytest.mark.parametrize("command", commands("README.md"))
def test_command(command: str, clone: Clone, hub: FakeHub) -> None:
    if command in ("make test", "make bench", "make demo", "make ablation"):
        # These tests are what `make test` runs, the benchmarks are for the real model, the demo serves until it is
        # stopped, and test_ablation.py runs all of an ablation: make has the targets.
        command += " --dry-run"
    if command.startswith(("dvc exp run -S", "dvc repro")):
        # The one before may have left its parameters; the comparisons after the first are with what it left.
        clone.restore()
    clone.run(
        "bash", "-c", command, HF_ENDPOINT=hub.endpoint, HF_HOME=str(clone.folder.parent / "hub"), HF_HUB_OFFLINE="0"
    )
    if command == "dvc queue start":
        assert "Failed" not in clone.wait_for_queue()
