"""Outputs are written whole: to a temporary name beside the target, then renamed."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from stages.core.errors import UserError, disk_failure


@contextmanager
def replacing(target: Path) -> Iterator[Path]:
    """Yield a temporary path beside `target`, for a file or a folder; on success it becomes `target`.

    What stood at `target` is replaced; on an error the temporary path is removed and `target` is as it was.

    Raises:
        UserError: the disk is full, may not be written, or the like.
    """
    temporary = target.with_name(f".{target.name}.tmp")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        remove(temporary)
        yield temporary
        if target.is_dir() or temporary.is_dir():
            remove(target)
        temporary.replace(target)
    except BaseException as error:
        with suppress(OSError):
            remove(temporary)
        if line := disk_failure(error, str(target)):
            raise UserError(line.replace(str(temporary), str(target))) from error
        raise


def remove(path: Path) -> None:
    """Delete a file or a folder, if it is there; a folder is gone at once, and no part of it is taken for the whole."""
    if path.is_dir() and not path.is_symlink():
        going = path.with_name(f".{path.name}.old.tmp")
        if going.exists():
            shutil.rmtree(going)  # of a process that was killed
        path.rename(going)
        shutil.rmtree(going)
    else:
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write UTF-8 with LF line ends, whole."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_json(path: Path, value: Any) -> None:
    """Write indented JSON with its keys in the order given, Korean readable."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def sha256(path: Path) -> str:
    """The SHA-256 of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
