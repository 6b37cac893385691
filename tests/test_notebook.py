"""The notebook for one free GPU: its form. tests/test_readme.py runs its commands."""

from __future__ import annotations

import re

import nbformat
import pytest

from tests.clone import ROOT
from tests.notebook import NOTEBOOK, cells, shell_commands
from tests.test_readme import RUNNABLE, commands

SET_UP = ("git clone ", "git config ", "pip install ", "nvidia-smi ", "head ")
"""What is run beside the repository's own commands."""


def test_it_is_valid_and_holds_no_outputs() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=nbformat.NO_CONVERT)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert code
    assert all(cell.outputs == [] and cell.execution_count is None for cell in code)


def test_cells_are_short() -> None:
    assert max(len(source.splitlines()) for source in cells("code")) <= 3


@pytest.mark.parametrize("text", cells("markdown"))
def test_each_text_is_in_both_languages(text: str) -> None:
    english, korean = text.split("\n\n")[-2:]
    assert not re.search("[가-힣]", english)
    assert re.search("[가-힣]", korean)


def test_code_is_shell_and_what_a_notebook_needs_for_it() -> None:
    lines = [line for source in cells("code") for line in source.splitlines() if not line.startswith("!")]
    assert lines == [
        'REPOSITORY = "https://github.com/OWNER/NAME.git"',
        "%cd dialogue-summary",
        "%env CUDA_VISIBLE_DEVICES=0",
    ]
    assert all(command.startswith((*RUNNABLE, *SET_UP)) for command in shell_commands())


def test_it_goes_from_the_clone_to_the_submission() -> None:
    order = ["git clone", "pip install", "python -m stages.recipe", "dvc repro", "head -n 3 data/submission.csv"]
    places = [next(i for i, command in enumerate(shell_commands()) if command.startswith(each)) for each in order]
    assert places == sorted(places)


def test_docs_name_it() -> None:
    for page in ("docs/teams.md", "docs/ko/teams.md"):
        assert "notebooks/one_free_gpu.ipynb" in (ROOT / page).read_text(encoding="utf-8")
        assert commands(page)
