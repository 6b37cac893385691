"""DVC's queue of experiments: what has ended or waits there, what is put into it, and who works on it."""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from tempfile import TemporaryFile

from tqdm import tqdm

from stages.core.errors import UserError
from stages.core.git import run_git
from stages.core.params import Settings
from stages.finishing.grid import as_options

_REFERENCE = re.compile(r"([0-9a-f]{40}) refs/exps/[0-9a-f]{2}/[0-9a-f]{38}/(.+)")
_TASK = re.compile(r"(?m)^[0-9a-f]{7}  (\S+) .*(Queued|Running|Failed|Success)\s*$")
_WORKERS = re.compile(r"(\d+) active, (\d+) idle")


def ended() -> dict[str, str]:
    """The experiments that have ended well: commits by name; of two of one name, the one that Git lists last."""
    listed = run_git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").stdout
    return {name: commit for commit, name in _REFERENCE.findall(listed)}


@dataclass(frozen=True)
class Tasks:
    """The experiments of the queue by name.

    Attributes:
        orphaned: DVC takes them for running, but nobody works, as after a power cut.
    """

    queued: set[str]
    running: set[str]
    orphaned: set[str]
    failed: set[str]

    @property
    def pending(self) -> set[str]:
        """Those that will end without anything being done but to start workers."""
        return self.queued | self.running


def tasks() -> Tasks:
    """What `dvc queue status` says."""
    said = run_dvc("queue", "status")
    named: dict[str, set[str]] = {state: set() for state in ("Queued", "Running", "Failed", "Success")}
    for name, state in _TASK.findall(said):
        named[state].add(name)
    workers = _WORKERS.search(said)
    works = workers is not None and (int(workers[1]) or int(workers[2]))
    running, orphaned = (named["Running"], set[str]()) if works else (set[str](), named["Running"])
    return Tasks(named["Queued"], running, orphaned, named["Failed"])


def put(name: str, changes: Settings, known: Tasks) -> None:
    """Queue an experiment, in place of one of its name that failed or was cut short."""
    if name in known.orphaned:
        run_dvc("queue", "kill", "--force", name)
    if name in known.orphaned | known.failed:
        run_dvc("queue", "remove", name)
    run_dvc("exp", "run", "--queue", "--name", name, *as_options(changes))


def start(workers: int) -> None:
    """Have as many workers take the queued experiments, one after another; they outlive this process."""
    # To a file: the workers hold on to what they are given to write to, and nobody is to wait for the end of a pipe.
    with TemporaryFile() as said:
        command = [sys.executable, "-m", "dvc", "queue", "start", "--jobs", str(workers)]
        done = subprocess.run(command, stdout=said, stderr=said)
        said.seek(0)
        _check(done.returncode, command[3:5], said.read().decode())


def wait(names: Collection[str], workers: int, *, seconds: float = 2, looks: int = 30) -> list[str]:
    """Wait for experiments of the queue, and say which of them failed.

    Args:
        seconds: between two looks at what has ended, which Git tells.
        looks: after as many DVC is asked, which takes longer, what has failed; workers that are gone are replaced.
    """
    left, failed, looked = set(names), list[str](), 0
    with tqdm(total=len(left), desc="sweep", unit=" runs", disable=None, leave=False) as progress:
        while left:
            time.sleep(seconds)
            over, looked = left & ended().keys(), looked + 1
            if not over and looked % looks == 0:
                known = tasks()
                gone = left - known.pending - ended().keys()
                failed += sorted(gone)
                over |= gone
                if not known.running:
                    start(workers)
            left -= over
            progress.update(len(over))
    return failed


def run_dvc(*arguments: str) -> str:
    """What a DVC command prints.

    Raises:
        UserError: it fails.
    """
    done = subprocess.run([sys.executable, "-m", "dvc", *arguments], capture_output=True, text=True)
    _check(done.returncode, arguments[:2], done.stderr)
    return done.stdout


def _check(code: int, command: Sequence[str], output: str) -> None:
    if code:
        said = [line for line in output.splitlines() if line.startswith("ERROR: ")] or ["ERROR: failed"]
        raise UserError(f"dvc {' '.join(command)}: {said[-1].removeprefix('ERROR: ')}")
