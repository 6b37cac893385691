"""dvc.yaml says what the code does: every stage depends on just what it imports, and on every parameter it reads."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
STAGES: dict[str, Any] = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]


def imported(module: Path) -> Iterator[Path]:
    """The project's modules that a module imports, wherever in it."""
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        for name in names:
            path = Path(*name.split(".")).with_suffix(".py")
            if name.startswith("stages.") and (ROOT / path).is_file():
                yield path


def closure(module: Path) -> set[Path]:
    """A module and all that it imports, directly or not."""
    found, waiting = set(), [module]
    while waiting:
        module = waiting.pop()
        if module not in found:
            found.add(module)
            waiting.extend(imported(module))
    return found


def params_read(module: Path) -> set[str]:
    """The dotted attributes of `params` that a stage's own module reads."""
    read = set()
    for node in ast.walk(ast.parse((ROOT / module).read_text(encoding="utf-8"))):
        parts = []
        while isinstance(node, ast.Attribute):
            parts.append(node.attr)
            node = node.value
        if parts and isinstance(node, ast.Name) and node.id == "params":
            read.add(".".join(reversed(parts)))
    return read


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_exactly_the_modules_it_imports(name: str) -> None:
    declared = {Path(dep) for dep in STAGES[name]["deps"] if dep.startswith("stages/")}
    assert declared == closure(Path("stages") / f"{name}.py")


def test_every_stage_script_is_declared() -> None:
    scripts = {path.stem for path in (ROOT / "stages").glob("*.py")}
    assert scripts - set(STAGES) == {"compare", "demo", "export", "show", "summarize"}  # they print or serve
    assert all(STAGES[name]["cmd"] == f"python -m stages.{name}" for name in STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_the_parameters_it_reads(name: str) -> None:
    declared = {key for key in STAGES[name].get("params", []) if isinstance(key, str)}
    # Reading `params.train` and then its fields counts as reading the section.
    for key in params_read(Path("stages") / f"{name}.py"):
        covered = any((key + ".").startswith(f"{known}.") or f"{known}.".startswith(f"{key}.") for known in declared)
        assert covered or key == "model_dump", f"{name} reads params.{key}"


def test_a_common_module_never_imports_a_stage() -> None:
    for module in (ROOT / "stages" / "common").glob("*.py"):
        for path in imported(module.relative_to(ROOT)):
            assert path.parts[:2] == ("stages", "common"), f"{module.name} imports {path}"


def test_no_stage_imports_another() -> None:
    for name in STAGES:
        for path in imported(Path("stages") / f"{name}.py"):
            assert path.parts[1] == "common", f"{name} imports {path}"


def test_outputs_are_ignored_by_git_or_kept_in_it() -> None:
    """An output in DVC's cache is ignored, so that `git add -A` never commits it; one with `cache: false` is not."""
    for stage in STAGES.values():
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
            path, options = (out, {}) if isinstance(out, str) else next(iter(out.items()))
            in_git = options.get("cache") is False
            ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0
            assert ignored != in_git, path
