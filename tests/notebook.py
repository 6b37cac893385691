"""The commands of a notebook, as its cells run them."""

from __future__ import annotations

from pathlib import Path

import nbformat

ROOT = Path(__file__).parents[1]
NOTEBOOK = ROOT / "notebooks/one_free_gpu.ipynb"


def cells(kind: str) -> list[str]:
    """The sources of the cells of a kind: code or markdown."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    return [cell.source for cell in notebook.cells if cell.cell_type == kind]


def shell_commands() -> list[str]:
    """What the code cells give to the shell, in their order."""
    lines = [line for source in cells("code") for line in source.splitlines()]
    return [line.removeprefix("!") for line in lines if line.startswith("!")]
