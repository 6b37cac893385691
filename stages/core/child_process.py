"""A process that ends with the one that started it."""

from __future__ import annotations

import os
import threading


def end_with_parent() -> None:
    """End this process with the one that holds the other end of its standard input, a pipe, however that ends."""

    def wait() -> None:
        os.read(0, 1)  # which returns when the other end of the pipe is closed; sys.stdin would stay locked at the end
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()
