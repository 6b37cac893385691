"""Every command of the README and of what it leads to is run, in its order, on a small copy of the repository."""

from __future__ import annotations

import csv
import re
import subprocess
from collections.abc import Iterator

import pytest

from tests.clone import ROOT, Clone
from tests.fake_hub import TOKEN, FakeHub
from tests.notebook import shell_commands
from tests.tiny import build_tiny_checkpoint

RUNNABLE = ("make ", "dvc ", "python ", "source ", "git ")
PAGES = {
    "README.md": "README.ko.md",
    "docs/commands.md": "docs/ko/commands.md",
    "docs/parameters.md": "docs/ko/parameters.md",
    "docs/recipes.md": "docs/ko/recipes.md",
    "docs/finishing.md": "docs/ko/finishing.md",
    "benchmarks/README.md": "benchmarks/README.ko.md",
    "docs/teams.md": "docs/ko/teams.md",
}
"""What a user reads, in the order of reading, and the same in Korean."""
DRY = ("test", "test-fast", "lint", "bench", "demo", "ablation", "pr-comment", "wheels", "hooks", "sweep")
"""Targets of which make's part alone is run here.

These tests are what `make test` runs and go with linting, the benchmarks are for the real model, the demo serves until
it is stopped, the index is on the network; test_ablation.py, ci/test_forges.py, ci/test_hooks.py and test_sweep.py run
the others.
"""
NO_SERVER = "dvc remote add --force"
"""Begins commands that name a remote which is not there: they are run, and taken back."""
WORDS = 1300
"""The longest README, code included."""


def commands(*pages: str) -> list[str]:
    """The commands of the shell blocks and of the text, in their order, each once; one with a NAME is a pattern."""
    text = "\n".join((ROOT / page).read_text(encoding="utf-8") for page in pages)
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
    origin = with_llm.folder.parent / "origin.git"
    with_llm.git("init", "-q", "--bare", "-b", "main", str(origin))
    with_llm.git("remote", "add", "origin", str(origin))
    yield with_llm
    own.unlink(missing_ok=True)


@pytest.mark.parametrize(("english", "korean"), PAGES.items())
def test_both_languages_have_the_same_commands(english: str, korean: str) -> None:
    assert commands(korean) == commands(english)


@pytest.mark.parametrize(("english", "korean"), PAGES.items())
def test_both_languages_have_the_same_figures(english: str, korean: str) -> None:
    assert figures(korean) == figures(english)


def figures(page: str) -> list[list[str]]:
    """The numbers of a page's tables, row by row."""
    rows = [line for line in (ROOT / page).read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    return [re.findall(r"\d[\d.,]*", row) for row in rows]


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_a_readme_is_read_in_five_minutes(readme: str) -> None:
    assert len((ROOT / readme).read_text(encoding="utf-8").split()) <= WORDS


@pytest.mark.parametrize("page", [*PAGES, *PAGES.values(), "CONTRIBUTING.md"])
def test_links_lead_to_files(page: str) -> None:
    links = re.findall(r"\]\(([^)#:]+)\)", (ROOT / page).read_text(encoding="utf-8"))
    assert [link for link in links if not (ROOT / page).parent.joinpath(link).is_file()] == []


@pytest.mark.parametrize("readme", ["README.md", "README.ko.md"])
def test_the_example_is_a_row_of_the_sample(readme: str) -> None:
    with (ROOT / "data/sample/test.csv").open(encoding="utf-8", newline="") as file:
        (row,) = [row for row in csv.DictReader(file) if row["fname"] == "test_5"]
    dialogue, _, summary = re.findall(r"```text\n(.*?)\n```", (ROOT / readme).read_text(encoding="utf-8"), re.DOTALL)
    assert dialogue == row["dialogue"]
    assert summary == row["summary1"]


def test_make_alone_lists_what_there_is_to_make() -> None:
    command = ["make", "--no-print-directory"]  # `make test` runs this too, and a make within make names its folder
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    (targets,) = re.findall(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE)
    assert re.findall(r"^make ([\w-]+) +\S.*$", listed, re.MULTILINE) == targets.split()
    assert len(listed.splitlines()) == len(targets.split())


def run(command: str, clone: Clone, hub: FakeHub) -> None:
    """Run a command with the Hub on loopback, where its large files go to the older of its two stores."""
    clone.run(
        *("bash", "-c", command),
        HF_ENDPOINT=hub.endpoint,
        HF_HOME=str(clone.folder.parent / "hub"),
        HF_HUB_DISABLE_XET="1",
        HF_HUB_OFFLINE="0",
        HF_TOKEN=TOKEN,
    )


@pytest.mark.slow
@pytest.mark.parametrize("command", commands(*PAGES, "CONTRIBUTING.md"))
def test_command(command: str, clone: Clone, hub: FakeHub) -> None:
    if command.removeprefix("make ") in DRY:
        command += " --dry-run"
    if command.startswith(("dvc exp run -S", "dvc repro")):
        # The one before may have left its parameters; the comparisons after the first are with what it left.
        clone.restore()
    if command.startswith(NO_SERVER):
        command = f"cp .dvc/config kept && {command}; status=$?; mv kept .dvc/config; exit $status"
    run(command, clone, hub)
    if command.startswith("python -m stages.recipe "):
        clone.restore()  # it chooses the real model
    if command == "dvc queue start":
        assert "Failed" not in clone.wait_for_queue()


@pytest.mark.slow
@pytest.mark.parametrize("command", dict.fromkeys(shell_commands()))
def test_command_of_the_notebook(command: str, clone: Clone, hub: FakeHub) -> None:
    """Most of them have run before, so that little is left to do; a clone is made beside, and nothing is installed."""
    if command.startswith("git clone"):
        command = command.format(REPOSITORY=clone.folder).replace("dialogue-summary", "../from-the-notebook")
    if command.startswith("pip install"):
        command += " --dry-run --no-index"
    if command.startswith(("dvc exp run -S", "dvc repro")):
        clone.restore()
    run(command, clone, hub)
    if command.startswith("python -m stages.recipe "):
        clone.restore()
