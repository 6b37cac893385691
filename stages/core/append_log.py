"""Lines that several processes append to one file at once; a killed one leaves whole lines behind."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from io import FileIO
from pathlib import Path

from filelock import lock_descriptor, unlock_descriptor

from stages.core.files import replacing

CHUNK = 2**16
"""Bytes read at once."""

log = logging.getLogger(__name__)


class AppendLog:
    """A file of lines. All but `path` and `locked` is to be used inside `with log.locked():`."""

    def __init__(self, path: Path, durable: bool = False) -> None:
        """Args:
        durable: a line is on the disk when `append` returns, and outlasts a machine that loses its power.
        """
        self.path = path
        self._durable = durable
        self._lock: FileIO | None = None
        self._file: FileIO | None = None
        self._end = 0
        self._lines = 0

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from the file."""
        if self._lock is None:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self._lock = self._lock_path.open("ab", buffering=0)
        # A FileLock opens its file each time, which takes as long as all else that is done with an answer.
        lock = self._lock.fileno()
        lock_descriptor(lock, poll_interval=0.001)
        try:
            yield
        finally:
            unlock_descriptor(lock)

    def read_new(self) -> Iterator[tuple[int, bytes]]:
        """The numbered lines that others wrote since the last call; all of them where somebody replaced the file.

        They are to be read to the end. A last line without an end was torn by a process that was killed, since no
        other writes now: it is cut off.
        """
        file = self._current()
        file.seek(self._end)
        torn = b""
        while chunk := file.read(CHUNK):
            *lines, torn = (torn + chunk).split(b"\n")
            for line in lines:
                self._advance(line)
                yield self._lines, line
        if torn:
            file.truncate(self._end)
            log.info("%s: cut off a torn last line of %d bytes", self.path, len(torn))

    def append(self, line: str) -> None:
        """Add a line, once `read_new` has told what others wrote; it is in the file when this returns."""
        data = line.encode()
        file = self._current()
        left = memoryview(data + b"\n")
        while left:  # a disk that fills takes a part
            left = left[file.write(left) :]
        if self._durable:
            os.fsync(file.fileno())
        self._advance(data)

    def replace(self, lines: Iterable[str]) -> None:
        """Write the file whole."""
        with replacing(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)

    def remove(self) -> None:
        """Delete the file, and the one that is locked beside it."""
        self.path.unlink(missing_ok=True)
        self._lock_path.unlink(missing_ok=True)

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f".{self.path.name}.lock")

    def _current(self) -> FileIO:
        """The file that is at the path now; the one held open keeps its inode, so that a new file has another."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            there = None
        if self._file is None or there is None or not os.path.samestat(there, os.fstat(self._file.fileno())):
            self._file = self.path.open("a+b", buffering=0)
            self._end = self._lines = 0
        return self._file

    def _advance(self, line: bytes) -> None:
        self._end += len(line) + 1
        self._lines += 1
