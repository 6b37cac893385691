"""How a stage ends on a mistake of its user: one line on standard error, exit code 1, no traceback."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable


class UserError(Exception):
    """A mistake that the user can mend: the message names the file or parameter, the value and what to do."""


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main` with logging set up; a UserError becomes one line and exit code 1."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    for chatty in ("httpx", "httpx2", "httpcore", "httpcore2", "openai"):
        logging.getLogger(chatty).setLevel(logging.WARNING)
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
