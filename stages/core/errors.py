"""How a stage ends on a mistake of its user: one line on standard error, exit code 1, no traceback."""

from __future__ import annotations

import logging
import os
import sys
import warnings
from collections.abc import Callable

QUIET = {
    **dict.fromkeys(("httpx", "httpx2", "httpcore", "httpcore2", "openai"), logging.WARNING),  # each request
    "bitsandbytes.backends.cpu.ops": logging.ERROR,  # CPUs with AVX-512 BF16: no package `kernels`, which we never use
    "transformers.integrations.bitsandbytes": logging.ERROR,  # which dtype weights are dequantized to
    "transformers.trainer_utils": logging.ERROR,  # checkpoints are ordered by their numbers, which is as good
}
"""Loggers that tell of what their user can do nothing about, and the level from which on they are heard."""

# Here and not in run_stage: bitsandbytes speaks up while a stage's imports are still under way.
for _name, _level in QUIET.items():
    logging.getLogger(_name).setLevel(_level)


class UserError(Exception):
    """A mistake that the user can mend: the message names the file or parameter, the value and what to do."""


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main` with logging set up; a UserError becomes one line and exit code 1.

    What libraries say to those who program with them stays unsaid, unless Python's `-W` or PYTHONWARNINGS ask for it.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    if not sys.warnoptions:
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
    # Texts are tokenized one by one, so nothing is lost; without it each later fork is warned of.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")
    try:
        main()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
