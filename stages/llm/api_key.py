"""Where the API key comes from; it is handed to the client and written nowhere."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

from stages.core.errors import UserError


def read_key(name: str) -> str | None:
    """Look for an API key in the environment, then in `.env` of $DVC_ROOT, then of the working folder.

    DVC sets $DVC_ROOT to the user's repository, also for an experiment that runs in a copy without `.env`.

    Raises:
        UserError: `.env` is not UTF-8, or the value cannot be sent in a header.
    """
    key = os.environ.get(name)
    for folder in (os.environ.get("DVC_ROOT"), "."):
        if not key and folder:
            key = _dotenv(Path(folder) / ".env").get(name)
    key = (key or "").strip()
    # The client's own exceptions for such a key quote it, or blame the connection.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"{name}: holds a space or a character that no API key has; check .env and the environment")
    return key or None


def _dotenv(path: Path) -> dict[str, str | None]:
    try:
        return dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as UTF-8") from None
