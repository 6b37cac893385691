"""dvc.yaml says what the code does: every stage depends on just what it imports, and on every parameter it reads."""

from __future__ import annotations

import ast
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from jinja2 import meta
from ruamel.yaml import YAML

from stages.core import paths
from stages.pages.rendering import TEMPLATES, environment

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


UNTRACKED = {
    Path("stages/core") / name
    for name in (
        "env_file.py",
        "errors.py",
        "gpus.py",
        "params.py",
        "paths.py",
        "shared_folder.py",
        "training_speeds.py",
    )
}
"""What shapes no output: the values of parameters stand under `params`, the paths under `deps` and `outs`."""


DATA_FILES = {
    path.name: path.relative_to(ROOT)
    for path in (ROOT / "stages").rglob("*")
    if path.is_file() and path.suffix != ".py" and path.parent.name != "__pycache__"
}
"""What lies beside the modules and is no module, by its name: templates."""


def files_read(module: Path) -> set[Path]:
    """The files beside the modules that a module names, and those that the templates among them extend or import."""
    tree = ast.parse((ROOT / module).read_text(encoding="utf-8"))
    names = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)} & DATA_FILES.keys()
    found, waiting = set[Path](), [DATA_FILES[str(name)] for name in names]
    while waiting:
        file = waiting.pop()
        found.add(file)
        if file.is_relative_to(TEMPLATES.relative_to(ROOT)):
            template = environment().parse((ROOT / file).read_text(encoding="utf-8"))
            referenced = meta.find_referenced_templates(template)
            # None is a name that a template computes: what it reads cannot be declared.
            waiting.extend(DATA_FILES[name or "a computed name"] for name in referenced)
    return found


def declared(name: str) -> set[Path]:
    """The sources that a stage depends on, those in folders too; a package's docstring is none."""
    sources = [ROOT / dep for dep in STAGES[name]["deps"] if dep.startswith("stages/")]
    files = [file for path in sources for file in ([path] if path.is_file() else path.rglob("*"))]
    return {
        file.relative_to(ROOT)
        for file in files
        if file.is_file() and file.parent.name != "__pycache__" and file.name != "__init__.py"
    }


def needed(name: str) -> set[Path]:
    """The modules that a stage imports, in whatever way, and the files that they read, which shape what it writes."""
    modules = closure(Path("stages") / f"{name}.py") - UNTRACKED
    return modules.union(*map(files_read, modules))


def upstream(name: str) -> set[str]:
    """The stages whose outputs a stage reads, directly or not."""
    outputs = {
        stage: {
            out if isinstance(out, str) else next(iter(out))
            for kind in ("outs", "metrics")
            for out in each.get(kind, [])
        }
        for stage, each in STAGES.items()
    }
    read = {
        stage
        for stage, outs in outputs.items()
        if any(dep == out or dep.startswith(f"{out}/") for out in outs for dep in STAGES[name]["deps"])
    }
    return read.union(*map(upstream, read))


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_all_modules_that_it_imports_and_files_that_they_read(name: str) -> None:
    assert needed(name) <= declared(name)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_depends_on_no_module_but_those_it_or_a_stage_before_it_imports(name: str) -> None:
    """A folder is a dependency where each of its modules makes this stage, or one that it waits for, run again."""
    assert declared(name) <= needed(name).union(*map(needed, upstream(name)))


def test_another_objective_samples_no_candidates_again() -> None:
    of_objectives = {"retraining/preferences.py", "retraining/align.py", "scoring/reward.py", "scoring/objective.py"}
    assert not {Path("stages") / name for name in of_objectives} & needed("candidates")
    read = {key for key in STAGES["candidates"]["params"] if key.partition(".")[0] in ("evaluate", "reward", "align")}
    assert read == {"evaluate.morphemes"}
    assert {"data/candidates.jsonl"} <= {*STAGES["align"]["deps"]} & {*STAGES["tune_decoding"]["deps"]}


def test_every_file_beside_the_modules_is_read_by_one() -> None:
    read = set[Path]().union(*(files_read(path.relative_to(ROOT)) for path in (ROOT / "stages").rglob("*.py")))
    assert read == set(DATA_FILES.values())
    assert {Path("stages/pages/templates") / name for name in ("report.html", "parts.html", "base.html")} <= needed(
        "evaluate"
    )
    assert not {path.name for path in needed("evaluate")} & {"explore.html", "demo.html"}


def test_the_pipeline_is_read_in_one_go() -> None:
    lines = (ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()
    assert len(lines) < 350
    assert max(map(len, lines)) <= 120


def test_packages_hold_only_their_docstring() -> None:
    """DVC does not watch them, see .dvcignore."""
    for file in (ROOT / "stages").glob("*/__init__.py"):
        [docstring] = ast.parse(file.read_text(encoding="utf-8")).body
        assert isinstance(docstring, ast.Expr) and isinstance(docstring.value, ast.Constant), file
        assert len(str(docstring.value.value).strip().splitlines()) == 4, file
        assert len(list(file.parent.glob("*.py"))) <= 16, file.parent


def test_every_stage_script_is_declared() -> None:
    scripts = {path.stem for path in (ROOT / "stages").glob("*.py")}
    assert scripts - set(STAGES) == {
        *("compare", "demo", "export", "leaderboard", "recipe", "show", "submit", "summarize", "sweep")
    }
    assert all(STAGES[name]["cmd"] == f"python -m stages.{name}" for name in STAGES)


@pytest.mark.parametrize("name", STAGES)
def test_a_stage_declares_the_parameters_it_reads(name: str) -> None:
    declared = {key for key in STAGES[name].get("params", []) if isinstance(key, str)}
    # Reading `params.train` and then its fields counts as reading the section.
    for key in params_read(Path("stages") / f"{name}.py"):
        covered = any((key + ".").startswith(f"{known}.") or f"{known}.".startswith(f"{key}.") for known in declared)
        assert covered or key == "model_dump", f"{name} reads params.{key}"


def test_the_pipeline_is_read_at_one_sitting() -> None:
    assert len((ROOT / "dvc.yaml").read_text(encoding="utf-8").splitlines()) < 300


def test_outputs_are_ignored_by_git_or_kept_in_it() -> None:
    """An output in DVC's cache is ignored, so that `git add -A` never commits it; one with `cache: false` is not.

    Those of `find_inputs` are in neither: DVC's copies of the repository must lack them.
    """
    found = [path.as_posix() for path in (paths.INPUTS_FOUND, paths.ADAPTERS_FOUND)]
    assert STAGES["find_inputs"]["outs"] == [{path: {"cache": False}} for path in found]
    assert all(subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0 for path in found)
    for stage in (stage for name, stage in STAGES.items() if name != "find_inputs"):
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
            path, options = (out, {}) if isinstance(out, str) else next(iter(out.items()))
            in_git = options.get("cache") is False
            ignored = subprocess.run(["git", "check-ignore", "-q", path], cwd=ROOT).returncode == 0
            assert ignored != in_git, path


def test_artefact_paths_stand_in_one_place() -> None:
    literal = re.compile(r'Path\("(?:data|models|metrics)/')
    modules = [path for path in (ROOT / "stages").rglob("*.py") if literal.search(path.read_text(encoding="utf-8"))]
    # The card shows, in a docstring, how it is called.
    assert {str(path.relative_to(ROOT)) for path in modules} == {"stages/core/paths.py", "stages/models/model_card.py"}
