"""Answers as they come, so that a generation that was killed goes on where it was."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.fingerprint import fingerprint
from stages.core.paths import partial_folder
from stages.models import quantizers

LIBRARIES = ("peft", "torch", "transformers", *quantizers.LIBRARIES)


class Journal:
    """Numbered values in a file, one a line, appended as they are computed.

    A line that a kill cut short is dropped, so what is read back was written whole.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[int, Any] = {}
        lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
        whole = [line for line in lines if line.endswith(b"\n")]
        if len(whole) < len(lines):
            os.truncate(path, sum(map(len, whole)))
        for line in whole:
            number, value = json.loads(line)
            self.values[number] = value

    def append(self, number: int, value: Any) -> None:
        """Write a value, on the disk when this returns."""
        self.values[number] = value
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(json.dumps([number, value], ensure_ascii=False) + "\n")
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Delete the file: its values have become an output."""
        self.path.unlink(missing_ok=True)


def journal_for(settings: Any, files: Sequence[Path], device: str) -> Journal:
    """The journal of the generation that these settings, input files, libraries and this device define."""
    name = fingerprint([settings, device], files, LIBRARIES)
    return Journal(partial_folder() / f"{name}.jsonl")
