"""Answers as they come, so that a generation that was killed goes on where it was."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.core.append_log import AppendLog
from stages.core.fingerprint import fingerprint
from stages.core.paths import partial_folder
from stages.models import quantizers

LIBRARIES = ("peft", "torch", "transformers", *quantizers.LIBRARIES)


class ResumeLog:
    """Numbered values, each kept in a file as soon as it is computed.

    What a killed run wrote half of its last line is dropped. Where several processes compute a value, the first stays.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[int, Any] = {}
        self._file = AppendLog(path, durable=True)
        if path.exists():
            with self._file.locked():
                self._take_in()

    def append(self, number: int, value: Any) -> None:
        """Keep a value, on the disk when this returns."""
        with self._file.locked():
            self._take_in()
            if number not in self.values:
                self._file.append(json.dumps([number, value], ensure_ascii=False))
                self.values[number] = value

    def remove(self) -> None:
        """Delete the file: its values have become an output."""
        if self.path.exists():
            with self._file.locked():
                self._file.remove()

    def _take_in(self) -> None:
        for _, line in self._file.read_new():
            number, value = json.loads(line)
            self.values.setdefault(number, value)


def resume_log_for(settings: Any, files: Sequence[Path], device: str) -> ResumeLog:
    """The log of the generation that these settings, input files, libraries and this device define."""
    name = fingerprint([settings, device], files, LIBRARIES)
    return ResumeLog(partial_folder() / f"{name}.jsonl")
