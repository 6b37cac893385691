"""How a stage ends on a mistake of its user: one line on standard error, exit code 1, no traceback."""

from __future__ import annotations

import errno
import logging
import os
import re
import select
import signal
import sys
import warnings
from collections.abc import Callable, Iterator

REMEDIES = {
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some of your quota and run it again",
    errno.EFBIG: "raise the limit (ulimit -f) and run it again",
    errno.EROFS: "work where you may write",
    errno.EACCES: "change its permissions, or work where you may write",
    errno.EPERM: "change its permissions, or work where you may write",
    errno.EIO: "check the disk and run it again",
}
"""What the user can do where a disk refuses, by the system's number of the error."""

_RUST = re.compile(r"\(os error (\d+)\)")  # as safetensors and tokenizers write it
_TORCH = re.compile(r"PytorchStreamWriter failed writing|inline_container\.cc:\d+\] \. unexpected pos")

QUIET = {
    **dict.fromkeys(("httpx", "httpx2", "httpcore", "httpcore2", "openai"), logging.WARNING),  # each request
    "bitsandbytes.backends.cpu.ops": logging.ERROR,  # CPUs with AVX-512 BF16: no package `kernels`, which we never use
    "transformers.integrations.bitsandbytes": logging.ERROR,  # which dtype weights are dequantized to
    "transformers.training_args": logging.ERROR,  # of several processes each trains as if it were alone
    "transformers.trainer_utils": logging.ERROR,  # checkpoints are ordered by their numbers, which is as good
}
"""Loggers that tell of what their user can do nothing about, and the level from which on they are heard."""

# Here and not in run_stage: bitsandbytes speaks up while a stage's imports are still under way.
for _name, _level in QUIET.items():
    logging.getLogger(_name).setLevel(_level)


class UserError(Exception):
    """A mistake that the user can mend: the message names the file or parameter, the value and what to do."""


def disk_failure(error: BaseException, target: str) -> str | None:
    """The line for an error that stands for a full disk, a quota, a read-only folder or the like; None for others.

    Args:
        target: what was being written, where the error does not say.
    """
    for each in _chain(error):
        rust = _RUST.search(str(each))
        number = each.errno if isinstance(each, OSError) else int(rust[1]) if rust else None
        if number in REMEDIES:
            path = (isinstance(each, OSError) and each.filename) or target
            return f"{path}: {os.strerror(number)}; {REMEDIES[number]}"
        if _TORCH.search(str(each)):
            return f"{target}: cannot be written whole; {REMEDIES[errno.ENOSPC]}"
    return None


def silence_libraries() -> None:
    """Keep what libraries say to those who program with them from the user, in each process of a stage."""
    if not sys.warnoptions:
        for category in (DeprecationWarning, PendingDeprecationWarning, FutureWarning):
            warnings.simplefilter("ignore", category)
    # Texts are tokenized one by one, so nothing is lost; without it each later fork is warned of.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    os.environ.setdefault("VLLM_LOGGING_LEVEL", "WARNING")


def run_stage(main: Callable[[], None]) -> None:
    """Run a stage's `main` with logging set up; a UserError or a full disk becomes one line and exit code 1.

    Where a pipe closes, as that of `| head` does, it ends without a word, and with the exit code that a shell reads
    from other tools.
    What libraries say to those who program with them stays unsaid, unless Python's `-W` or PYTHONWARNINGS ask for it.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr, force=True)
    silence_libraries()
    try:
        try:
            main()
        except SystemExit:  # argparse's, after --help
            sys.stdout.flush()
            raise
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        _forget_output()
        raise SystemExit(1) from None
    except Exception as error:
        if isinstance(error, BrokenPipeError) and _pipe_is_closed():
            _forget_output()
            raise SystemExit(128 + signal.SIGPIPE) from None
        line = disk_failure(error, "output")
        if line is None:
            raise
        print(f"error: {line}", file=sys.stderr)
        _forget_output()
        raise SystemExit(1) from None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _pipe_is_closed() -> bool:
    """Whether nobody reads standard output or standard error any more.

    Other pipes break too, those to a worker or a server, and that is no end to keep quiet about.
    """
    poll = select.poll()
    for stream in (sys.stdout, sys.stderr):
        poll.register(stream, 0)
    return any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0))


def _forget_output() -> None:
    """Let what standard output and error could not take go, which Python would try to write again when it ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
