"""Check against the package index that requirements.lock installs on each kind of laptop, and not on this one alone.

    python -m ci.check_wheels

uv resolves the lock for all platforms at once and lists the files of every package, as pylock.toml (PEP 751). No file
is downloaded, nothing is installed, and no line here says that the packages work there.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import uv
from packaging.markers import Marker
from packaging.tags import Tag, compatible_tags, cpython_tags, mac_platforms
from packaging.utils import parse_wheel_filename

from stages.core.errors import UserError, run_stage

LOCK = Path("requirements.lock")
PYTHONS = ((3, 11), (3, 12), (3, 13))
SOURCES = {"antlr4-python3-runtime", "kiwipiepy-model", "rouge-score"}
"""Packages that come as a source only, of Python alone: it builds everywhere, without a compiler."""


@dataclass(frozen=True)
class Machine:
    """A kind of machine: the platform tags of wheels that it takes, and what markers are told of it."""

    tags: tuple[str, ...]
    markers: Mapping[str, str]


def linux(architecture: str) -> Machine:
    """Linux with glibc 2.28 or later, which is what torch asks for."""
    tags = (*(f"manylinux_2_{minor}_{architecture}" for minor in range(28, 16, -1)), f"manylinux2014_{architecture}")
    if architecture == "x86_64":
        older = (*(f"manylinux_2_{minor}_x86_64" for minor in range(16, 4, -1)), "manylinux2010_x86_64")
        tags = (*tags, *older, "manylinux1_x86_64")
    return Machine(
        tags,
        {"sys_platform": "linux", "platform_system": "Linux", "platform_machine": architecture, "os_name": "posix"},
    )


def macos(version: tuple[int, int]) -> Machine:
    """Apple silicon."""
    return Machine(
        tuple(mac_platforms(version, "arm64")),
        {"sys_platform": "darwin", "platform_system": "Darwin", "platform_machine": "arm64", "os_name": "posix"},
    )


MACHINES = {
    "Linux on x86": linux("x86_64"),
    "Linux on Arm": linux("aarch64"),
    "macOS 14 on Apple silicon": macos((14, 0)),
}


def resolve(lock: Path) -> list[dict[str, Any]]:
    """All that a lock installs on some platform: the `packages` of a pylock.toml.

    Raises:
        UserError: the pins disagree, or the index lacks one, or cannot be reached; in uv's words.
    """
    with TemporaryDirectory() as folder:
        output = Path(folder) / "pylock.toml"
        options = ("--universal", "--python-version", "3.11", "--format", "pylock.toml", "--no-annotate", "--no-header")
        command = (uv.find_uv_bin(), "pip", "compile", *options, "--output-file", output, lock)
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise UserError(f"{lock}: {' '.join(done.stderr.split())}")
        packages: list[dict[str, Any]] = tomllib.loads(output.read_text(encoding="utf-8"))["packages"]
    return packages


def missing(packages: Sequence[Mapping[str, Any]], machine: Machine, python: tuple[int, int]) -> list[str]:
    """The packages, as `name==version`, that this Python on this kind of machine wants and can get no file for."""
    version = ".".join(map(str, python))
    environment = {**machine.markers, "python_version": version, "python_full_version": f"{version}.0"}
    tags = set(cpython_tags(python, platforms=machine.tags))
    tags |= set(compatible_tags(python, f"cp{python[0]}{python[1]}", machine.tags))
    return [
        f"{package['name']}=={package['version']}"
        for package in packages
        if ("marker" not in package or Marker(package["marker"]).evaluate(environment))
        and not (package["name"] in SOURCES and "sdist" in package)
        and not any(tags & wheel for wheel in _wheels(package))
    ]


def _wheels(package: Mapping[str, Any]) -> Iterator[frozenset[Tag]]:
    for wheel in package.get("wheels", ()):
        name = wheel.get("name") or (wheel.get("url") or wheel["path"]).rsplit("/", 1)[-1]
        yield parse_wheel_filename(name.replace("%2B", "+"))[3]


def main() -> None:
    packages = resolve(LOCK)
    found = False
    for name, machine in MACHINES.items():
        for python in PYTHONS:
            where = f"{name}, Python {python[0]}.{python[1]}"
            lacking = missing(packages, machine, python)
            found |= bool(lacking)
            print(f"{where}: {'no file for ' + ', '.join(lacking) if lacking else 'every package has a file'}")
    if found:
        sys.stdout.flush()
        raise UserError(f"{LOCK}: choose other versions, or add markers that leave those packages out there")


if __name__ == "__main__":
    run_stage(main)
