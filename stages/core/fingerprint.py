"""A short name for work by all that decides its result, under which what a killed run leaves behind is found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.core.files import sha256

ROOT = Path(__file__).parents[2]
"""The copy of the repository whose code runs."""


def fingerprint(settings: Any, files: Sequence[Path], libraries: Sequence[str]) -> str:
    """Sixteen hexadecimal digits of the settings (as JSON), the files' names and contents, and library versions."""
    identity = {
        "settings": settings,
        "files": [[path.name, sha256(path)] for path in files],
        "libraries": {name: version(name) for name in libraries},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]


def stage_sources(stage: str) -> list[Path]:
    """The files of code that a stage depends on, as dvc.yaml lists them; work begun by other code is begun anew."""
    with (ROOT / "dvc.yaml").open(encoding="utf-8") as file:
        deps = YAML(typ="safe").load(file)["stages"][stage]["deps"]
    sources = [ROOT / dep for dep in deps if dep.startswith("stages/")]
    return [file for source in sources for file in ([source] if source.is_file() else sorted(source.rglob("*.py")))]
