"""Where the API key comes from; it is handed to the client and written nowhere."""

from __future__ import annotations

from stages.core.env_file import variable
from stages.core.errors import UserError


def read_key(name: str) -> str | None:
    """Look for an API key in the environment, then in `.env`.

    Raises:
        UserError: `.env` is not UTF-8, or the value cannot be sent in a header.
    """
    key = (variable(name) or "").strip()
    # The client's own exceptions for such a key quote it, or blame the connection.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"{name}: holds a space or a character that no API key has; check .env and the environment")
    return key or None
