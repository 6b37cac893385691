"""The variables of `.env`, where keys and tokens lie: read as they are written, and never written anywhere."""

from __future__ import annotations

import os
from pathlib import Path

from dotenv import dotenv_values

from stages.core.errors import UserError


def variable(name: str) -> str | None:
    """A variable of the environment; one that is not set there, or empty, is looked for in `.env`.

    Raises:
        UserError: `.env` is not UTF-8.
    """
    return os.environ.get(name) or read_env_file().get(name)


def load_env_file() -> None:
    """Put the variables of `.env` into the environment, for libraries that look there; what is set stays.

    Raises:
        UserError: `.env` is not UTF-8.
    """
    for name, value in read_env_file().items():
        os.environ.setdefault(name, value)


def read_env_file() -> dict[str, str]:
    """The variables, without empty ones, of $DVC_ROOT's `.env`, and those that only the working folder's has.

    DVC sets $DVC_ROOT to the user's repository, also for an experiment that runs in a copy without `.env`.
    """
    found: dict[str, str] = {}
    for folder in (".", os.environ.get("DVC_ROOT", ".")):
        path = Path(folder) / ".env"
        try:
            values = dotenv_values(path, interpolate=False, encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise UserError(f"{path}: not UTF-8; save it as UTF-8") from None
        found |= {name: value for name, value in values.items() if value}
    return found
