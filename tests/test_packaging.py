"""The package builds, holds all of `stages`, and its extras agree with one another and with requirements.lock.

What the extras ask for in turn is recorded in ASKS, as the packages' own metadata on pypi.org had it on 30 November
2026 (`pip install --dry-run --no-deps --report - vllm==0.30.0`, and so on), for Python 3.11 on x86-64 Linux. A resolver
(`uv pip compile`) that was given all of it chose the versions in RESOLVED. No test here needs a network.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from email.parser import Parser
from pathlib import Path
from zipfile import ZipFile

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.clone import ROOT

PYTHON = {"python_version": "3.11", "python_full_version": "3.11.0", "sys_platform": "linux"}
RESOLVED = {
    "aiobotocore": "3.10.0",
    "apache-tvm-ffi": "0.1.11",
    "dvc-s3": "3.3.0",
    "dvc-ssh": "4.3.0",
    "flash-attn-4": "4.0.0b36",
    "mistral-common": "1.13.1",
    "numba": "0.65.0",
    "numpy": "2.3.5",
    "nvidia-cutlass-dsl": "4.7.1",
    "quack-kernels": "0.6.5",
    "s3fs": "2026.9.0",
    "sshfs": "2026.8.0",
    "tilelang": "0.1.12",
    "torchaudio": "2.11.0",
    "torchvision": "0.28.0",
    "vllm": "0.30.0",
}
"""What no lock has, and the one version that differs from the lock's: beside vLLM, numpy is older."""
VLLM = (
    "aiohttp>=3.13.3",
    "filelock>=3.16.1",
    "mistral-common>=1.11.6",
    "numba==0.65.0",
    "pydantic>=2.12.0",
    "requests>=2.26.0",
    "safetensors>=0.6.2",
    "tokenizers>=0.21.1",
    "torchaudio==2.11.0",
    "typing-extensions>=4.10",
)
"""What vLLM 0.27.1 to 0.31.0 ask for alike."""
ASKS: dict[str, tuple[str, ...]] = {
    "aiobotocore==3.10.0": ("aiohttp<4.0.0,>=3.14.0", "multidict<8.0.0,>=6.0.0", "python-dateutil<3.0.0,>=2.1"),
    "dvc-s3==3.3.0": ("aiobotocore>=2.5.0", "dvc", "flatten_dict<1,>=0.4.1", "fsspec", "s3fs>=2024.12.0"),
    "dvc-ssh==4.3.0": ("dvc", "sshfs[bcrypt]>=2023.4.1"),
    "flash-attn-4==4.0.0b36": ("apache-tvm-ffi<0.2,>=0.1.11", "nvidia-cutlass-dsl>=4.6.2", "quack-kernels>=0.5.3"),
    "mistral-common==1.13.1": ("numpy<2.4,>=1.25", "pydantic<3.0,>=2.12", "requests>=2.0.0"),
    "numba==0.65.0": ("numpy<2.5,>=1.22",),
    "quack-kernels==0.6.5": ("apache-tvm-ffi<0.2,>=0.1.6", "nvidia-cutlass-dsl>=4.7"),
    "s3fs==2026.9.0": ("aiobotocore<4.0.0,>=2.19.0", "aiohttp>=3.9.0", "fsspec<2026.9.1,>=2026.9.0"),
    "sshfs==2026.8.0": ("asyncssh<3,>=2.11.0", "fsspec>=2021.8.1"),
    "tilelang==0.1.12": ("apache-tvm-ffi<=0.1.11,>=0.1.10", "numpy>=1.23.5", "tqdm>=4.62.3"),
    "torchvision==0.28.0": ("torch==2.13.0",),
    "vllm==0.26.0": ("openai>=2.0.0", "torch==2.11.0", "torchvision==0.26.0", "transformers>=5.5.3"),
    "vllm==0.27.1": (
        *VLLM,
        *("apache-tvm-ffi==0.1.11", "nvidia-cutlass-dsl==4.6.0", "openai>=2.0.0", "quack-kernels==0.6.1"),
        *("tilelang==0.1.12", "torch==2.13.0", "torchvision==0.28.0", "transformers>=5.5.3"),
    ),
    "vllm==0.30.0": (
        *VLLM,
        *("apache-tvm-ffi==0.1.11", "huggingface-hub>=1.31.0", "nvidia-cutlass-dsl==4.7.1", "openai>=2.25.0"),
        *("quack-kernels==0.6.5", "tilelang==0.1.12", "torch==2.13.0", "torchvision==0.28.0", "transformers>=5.10.4"),
    ),
    "vllm==0.31.0": (*VLLM, "openai>=2.25.0", "torch==2.13.0", "torchvision==0.28.0", "transformers<5.18.0,>=5.10.4"),
    "vllm==0.33.0": ("openai>=2.25.0", "torch==2.14.0", "torchvision==0.29.0", "transformers<5.21.0,>=5.16.1"),
}


def locked() -> dict[str, str]:
    lines = (ROOT / "requirements.lock").read_text(encoding="utf-8").splitlines()
    pins = [line.split(";")[0].split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pins}


def conflicts(requirements: list[str], versions: dict[str, str]) -> list[str]:
    """What of the requirements, and of what ASKS says that they ask for in turn, these versions do not meet."""
    found: list[str] = []
    seen: set[str] = set()
    left = [Requirement(text) for text in requirements]
    while left:
        wanted = left.pop()
        name = canonicalize_name(wanted.name)
        version = versions.get(name)
        if version is None or not wanted.specifier.contains(version, prereleases=True):
            found.append(f"{wanted}: {version}")
        pin = f"{name}=={version}"
        if pin in ASKS and pin not in seen:
            seen.add(pin)
            left.extend(Requirement(text) for text in ASKS[pin])
    return sorted(found)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What Git tracks, with what a used folder has besides: folders beside `stages`, and byte code within it."""
    folder = tmp_path_factory.mktemp("source") / "repository"
    for name in _tracked():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / name, folder / name)
    for name in ("models/base.json", "stages/core/__pycache__/files.cpython-311.pyc", "tests/test_clean.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()
    return folder


@pytest.fixture(scope="module")
def wheel(source: Path) -> ZipFile:
    """The wheel, built as pip builds it, by the setuptools that torch brings along."""
    code = "from setuptools.build_meta import build_wheel; build_wheel('dist')"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (path,) = (source / "dist").glob("*.whl")
    return ZipFile(path)


@pytest.fixture(scope="module")
def requirements(wheel: ZipFile) -> dict[str, list[str]]:
    """By extra, and under "" for a plain installation, what the built metadata asks for on Python 3.11."""
    (name,) = (name for name in wheel.namelist() if name.endswith(".dist-info/METADATA"))
    metadata = Parser().parsestr(wheel.read(name).decode("utf-8"))
    found: dict[str, list[str]] = {}
    for extra in ("", *metadata.get_all("Provides-Extra", [])):
        found[extra] = []
        for text in metadata.get_all("Requires-Dist", []):
            requirement = Requirement(text)
            if requirement.marker is None or requirement.marker.evaluate({**PYTHON, "extra": extra}):
                requirement.marker = None
                found[extra].append(str(requirement))
    return found


def test_the_wheel_holds_the_stages_with_their_other_files_and_nothing_else(wheel: ZipFile) -> None:
    held = {name for name in wheel.namelist() if ".dist-info/" not in name}
    assert held == {name for name in _tracked() if name.startswith("stages/")}
    assert "stages/pages/templates/demo.html" in held
    assert "stages/corpus/tables.py" in held


def test_a_plain_editable_installation(source: Path, tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--prefix", str(tmp_path), "--editable", ".[vllm]"], cwd=source, check=True)
    (packages,) = tmp_path.glob("lib/*/site-packages")
    code = (
        f"import site; site.addsitedir({str(packages)!r}); import stages.core.paths; print(stages.core.paths.__file__)"
    )
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{source / 'stages/core/paths.py'}\n"


def test_the_lock_meets_a_plain_installation_and_the_extras_that_it_holds(requirements: dict[str, list[str]]) -> None:
    assert set(requirements) == {"", "dev", "flash", "mecab", "s3", "ssh", "vllm"}
    for extra in ("", "dev", "mecab"):
        assert conflicts(requirements[extra], locked()) == []


@pytest.mark.parametrize(
    "extras", [["s3", "ssh"], ["flash"], ["vllm"], ["vllm", "flash"], ["vllm", "flash", "mecab", "dev"]]
)
def test_extras_agree_with_one_another_and_with_the_lock(extras: list[str], requirements: dict[str, list[str]]) -> None:
    asked = [text for extra in extras for text in requirements[extra]]
    assert conflicts(asked, {**locked(), **RESOLVED}) == []


def test_numpy_alone_changes_in_a_locked_environment(requirements: dict[str, list[str]]) -> None:
    beside = {name: version for name, version in RESOLVED.items() if name != "numpy"}
    assert conflicts(requirements["vllm"], {**locked(), **beside}) == ["numpy<2.4,>=1.25: 2.4.6"]
    assert conflicts(requirements["flash"], {**locked(), **beside}) == []


def test_the_oldest_vllm_that_is_allowed(requirements: dict[str, list[str]]) -> None:
    older = {"vllm": "0.27.1", "nvidia-cutlass-dsl": "4.6.0", "quack-kernels": "0.6.1"}
    assert conflicts(requirements["vllm"], {**locked(), **RESOLVED, **older}) == []


@pytest.mark.parametrize(
    ("vllm", "reason"),
    [
        ("0.26.0", "torch==2.11.0: 2.13.0"),
        ("0.31.0", "transformers<5.18.0,>=5.10.4: 5.23.0"),
        ("0.33.0", "torch==2.14.0: 2.13.0"),
    ],
)
def test_other_versions_of_vllm_cannot_agree_and_are_not_allowed(
    vllm: str, reason: str, requirements: dict[str, list[str]]
) -> None:
    found = conflicts(requirements["vllm"], {**locked(), **RESOLVED, "vllm": vllm})
    assert reason in found
    assert any(text.startswith("vllm<0.31,>=0.27.1") for text in found)


def _tracked() -> list[str]:
    listed = subprocess.run(
        [
            *("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"),
            *("stages", "pyproject.toml", "README.md", "LICENSE"),
        ],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return [name for name in listed.split("\0") if name and (ROOT / name).is_file()]
