"""A short name for work by all that decides its result, under which what a killed run leaves behind is found again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from stages.common.files import sha256


def fingerprint(settings: Any, files: Sequence[Path], libraries: Sequence[str]) -> str:
    """Sixteen hexadecimal digits of the settings (as JSON), the files' names and contents, and library versions."""
    identity = {
        "settings": settings,
        "files": [[path.name, sha256(path)] for path in files],
        "libraries": {name: version(name) for name in libraries},
    }
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:16]
