"""Each way to an environment asks for the locked packages and for a Python that the project allows."""

from __future__ import annotations

import ensurepip
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from ruamel.yaml import YAML

from tests.clone import ROOT, Clone

DOCKERFILE = (ROOT / "Dockerfile").read_text(encoding="utf-8")
DEVCONTAINER = json.loads((ROOT / ".devcontainer/devcontainer.json").read_text(encoding="utf-8"))
CONDA = YAML(typ="safe").load(ROOT / "environment.yml")


def pattern(line: str, folder: str = "") -> str:
    """A line of a .gitignore as Docker writes it: without a slash it is meant in every folder."""
    sign, path = ("!", line[1:]) if line.startswith("!") else ("", line)
    anywhere = "" if "/" in path.rstrip("/") else "**/"
    return sign + folder + anywhere + path.strip("/")


def patterns(name: str) -> list[str]:
    lines = (ROOT / name).read_text(encoding="utf-8").splitlines()
    return [line for line in lines if line and not line.startswith("#")]


def test_hadolint_finds_nothing_in_the_dockerfile() -> None:
    hadolint = Path(sys.executable).parent / "hadolint"
    done = subprocess.run([hadolint, "Dockerfile"], cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, "")


def test_all_ask_for_a_python_that_the_project_allows() -> None:
    allowed = SpecifierSet(
        tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["requires-python"]
    )
    (image,) = re.findall(r"^FROM python:(3\.\d+)-\w+$", DOCKERFILE, re.MULTILINE)
    (conda,) = [entry.removeprefix("python=") for entry in CONDA["dependencies"] if str(entry).startswith("python=")]
    (container,) = re.findall(r"/python:(3\.\d+)-\w+$", DEVCONTAINER["image"])
    assert {image, conda, container} == {"3.11"}
    assert "3.11" in allowed


def test_no_package_has_a_version_but_the_locks() -> None:
    """Docker and the container run `make setup`; conda hands the lock to pip."""
    assert [entry for entry in CONDA["dependencies"] if isinstance(entry, dict)] == [
        {"pip": ["--requirement requirements.lock"]}
    ]
    assert [entry for entry in CONDA["dependencies"] if isinstance(entry, str)] == ["python=3.11", "git", "make", "pip"]
    assert "make setup" in DOCKERFILE
    assert "make setup" in DEVCONTAINER["postCreateCommand"]
    assert re.findall(r"pip install|==", DOCKERFILE + DEVCONTAINER["postCreateCommand"]) == []


def test_docker_runs_the_sample() -> None:
    assert DOCKERFILE.splitlines()[-1] == 'CMD ["make", "repro"]'


@pytest.mark.parametrize(
    ("device", "index"), [("cpu", "https://download.pytorch.org/whl/cpu"), ("cuda", ""), ("tpu", None)]
)
def test_the_build_argument_chooses_the_build_of_torch(device: str, index: str | None, tmp_path: Path) -> None:
    """The Dockerfile's RUN, with a program that writes down where pip would look in the place of `make`."""
    (tmp_path / "make").write_text('#!/bin/sh\necho "$@ $PIP_EXTRA_INDEX_URL"\n', encoding="utf-8")
    (tmp_path / "make").chmod(0o755)
    (script,) = re.findall(r"^RUN (.*?[^\\])$", DOCKERFILE, re.MULTILINE | re.DOTALL)
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "DEVICE": device}
    done = subprocess.run(["sh", "-c", script], env=environment, capture_output=True, text=True)
    if index is None:
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == "error: DEVICE = tpu: allowed: cpu, cuda\n"
    else:
        assert (done.returncode, done.stdout) == (0, f"setup PYTHON=python {index}\n")


def test_uv_sync_installs_the_locked_versions() -> None:
    """And beside them what PyTorch's build for CUDA brings along, which pip takes from the index too."""
    uv = str(Path(sys.executable).parent / "uv")
    subprocess.run([uv, "lock", "--check", "--offline"], cwd=ROOT, check=True, capture_output=True)
    export = [
        uv,
        "export",
        "--frozen",
        "--offline",
        "--extra",
        "dev",
        "--no-hashes",
        "--no-emit-project",
        "--no-annotate",
    ]
    done = subprocess.run(export, cwd=ROOT, check=True, capture_output=True, text=True)
    synced, locked = pins(done.stdout), pins((ROOT / "requirements.lock").read_text(encoding="utf-8"))
    assert {name: synced.get(name) for name in locked} == locked
    assert not [name for name in synced.keys() - locked if not re.match("nvidia-|cuda-|triton$|setuptools$", name)]


def pins(text: str) -> dict[str, str]:
    """The version of each package that such a list installs on this machine."""
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    found = [Requirement(line) for line in lines]
    return {
        canonicalize_name(each.name): str(each.specifier)
        for each in found
        if each.marker is None or each.marker.evaluate({"extra": "dev"})
    }


def test_what_git_ignores_stays_out_of_the_image() -> None:
    """Secrets in .env and .dvc/config.local before all."""
    ignored = [pattern(line) for line in patterns(".gitignore")]
    ignored += [pattern(line, ".dvc/") for line in patterns(".dvc/.gitignore")]
    assert set(patterns(".dockerignore")) == set(ignored)


def test_the_container_sets_up_and_has_dvcs_extension(tmp_path: Path) -> None:
    editor = DEVCONTAINER["customizations"]["vscode"]
    assert "iterative.dvc" in editor["extensions"]
    assert editor["settings"]["python.defaultInterpreterPath"] == "${workspaceFolder}/.venv/bin/python"
    clone = Clone(tmp_path / "repository", small=False)
    clone.link_environment()
    clone.run("sh", "-e", "-c", DEVCONTAINER["postCreateCommand"])


@pytest.fixture
def index(tmp_path: Path) -> Path:
    """A project that locks one package, in a folder that stands for the package index too."""
    for name in ("tiny_pin", "wheel"):  # uv puts wheel beside pip
        with ZipFile(tmp_path / f"{name}-1-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"{name}.py", "")
            wheel.writestr(f"{name}-1.dist-info/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
            wheel.writestr(
                f"{name}-1.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
            )
            wheel.writestr(f"{name}-1.dist-info/RECORD", "")
    (tmp_path / "requirements.lock").write_text("tiny-pin==1\n", encoding="utf-8")
    (tmp_path / "Makefile").write_bytes((ROOT / "Makefile").read_bytes())
    return tmp_path


def console(page: str) -> list[str]:
    """The commands of a page that need what is not here, block by block."""
    return re.findall(r"```console\n(.*?)```", (ROOT / page).read_text(encoding="utf-8"), re.DOTALL)


def test_both_languages_have_the_same_commands() -> None:
    assert console("docs/ko/teams.md") == console("docs/teams.md")
    assert [commands.split()[0] for commands in console("docs/teams.md")] == ["uv", "conda", "docker"]


def test_make_takes_the_environment_that_uv_made(index: Path) -> None:
    """The page's commands, on a lock of one package; pip is the one that Python carries along."""
    commands = console("docs/teams.md")[0].replace("3.11", f"3.{sys.version_info.minor}")
    scripts = str(Path(sys.executable).parent)
    places = f"{index},{Path(ensurepip.__file__).parent / '_bundled'}"
    environment = {"UV_OFFLINE": "1", "UV_FIND_LINKS": places, "UV_CACHE_DIR": str(index / "cache")}
    subprocess.run(
        ["bash", "-e", "-c", commands],
        cwd=index,
        env={**environment, "PATH": f"{scripts}:/usr/bin:/bin", "HOME": str(index)},
        check=True,
        capture_output=True,
    )
    subprocess.run([".venv/bin/python", "-c", "import tiny_pin"], cwd=index, check=True)
    assert subprocess.run(["make", "--question", ".venv/.installed"], cwd=index).returncode == 0
