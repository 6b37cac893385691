"""Folders of work under way that several processes come to, as experiments that differ in later stages alone.

Locks are the system's, so that a process that dies lets go of what it held.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from fcntl import LOCK_EX, LOCK_NB, LOCK_SH, flock
from pathlib import Path

from stages.core.files import remove

USERS = ".users"
"""Held by all processes that need the folder."""
TURN = ".turn"
"""Held by the one that works in it."""
KEPT = ".kept"
"""Says that the folder is kept only for the case that the work is asked for again."""

logger = logging.getLogger(__name__)


@contextmanager
def in_use(folder: Path) -> Iterator[None]:
    """Keep others from removing a folder; it is made where there is none, and goes if nothing was put into it."""
    descriptor = _hold(folder)
    try:
        yield
    finally:
        os.close(descriptor)
        if folder.is_dir() and {path.name for path in folder.iterdir()} <= {USERS, TURN}:
            remove_unused(folder)


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Work in a folder while no other process does; wait for one that does, and say so. It is `in_use` meanwhile."""
    with in_use(folder), (folder / TURN).open("ab") as turn:
        try:
            flock(turn, LOCK_EX | LOCK_NB)
        except BlockingIOError:
            logger.info("Waiting for another process that does the same work, in %s", folder)
            flock(turn, LOCK_EX)
        yield


def remove_unused(folder: Path) -> None:
    """Remove a folder, if it is there; one in use is left to those who use it."""
    try:
        descriptor = os.open(folder / USERS, os.O_RDWR)
    except FileNotFoundError:
        return
    try:
        flock(descriptor, LOCK_EX | LOCK_NB)
        if _is_there(descriptor):
            remove(folder)
    except BlockingIOError:
        return
    finally:
        os.close(descriptor)


def remove_later(folder: Path) -> None:
    """Have `remove_kept` remove a folder, once what was done in it is safe elsewhere."""
    (folder / KEPT).touch()


def remove_kept(parent: Path) -> None:
    """Remove the folders that were to be removed later, but for those in use."""
    for mark in parent.glob(f"*/{KEPT}"):
        remove_unused(mark.parent)


def _hold(folder: Path) -> int:
    """The descriptor of the locked file of a folder's users, made anew where the folder was just removed."""
    while True:
        folder.mkdir(parents=True, exist_ok=True)
        try:
            descriptor = os.open(folder / USERS, os.O_RDWR | os.O_CREAT)
        except FileNotFoundError:
            continue
        flock(descriptor, LOCK_SH)
        if _is_there(descriptor):
            return descriptor
        os.close(descriptor)


def _is_there(descriptor: int) -> bool:
    """Whether the file that was opened has not been removed since, with the folder that it was in."""
    return os.fstat(descriptor).st_nlink > 0
