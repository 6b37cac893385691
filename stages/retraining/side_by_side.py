"""Runs commands as processes of their own: side by side where there are several GPUs, else one after the other."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from stages.core.errors import UserError


def run_side_by_side(
    commands: Mapping[str, Sequence[str]], devices: Sequence[str], log: Callable[[str], Path], label: str
) -> None:
    """Run each command, one at a time on a device; where one fails, the others end too.

    Standard input of each is a pipe that this process holds: with `end_with_parent` they end whenever it does.

    Args:
        commands: by name.
        devices: GPUs; with one or none, what the commands say goes to standard error as it comes.
        log: by the command's name, the file for what it says while others run beside it.
        label: what the commands are, for the progress bar.

    Raises:
        UserError: a command failed.
    """
    waiting = list(commands)
    running: dict[str, tuple[str, subprocess.Popen[bytes]]] = {}
    together = len(devices) > 1
    with _ending(running), tqdm(total=len(waiting), desc=label, unit="", disable=not together) as bar:
        while waiting or running:
            for device in devices or [""]:
                if device in running or not waiting:
                    continue
                name = waiting.pop(0)
                output = log(name) if together else None
                if output:
                    output.parent.mkdir(parents=True, exist_ok=True)
                    bar.write(f"{name} on GPU {device}: see {output}", file=sys.stderr)
                running[device] = name, _start(commands[name], device, output)
            time.sleep(0.05)
            for device, (name, process) in list(running.items()):
                code = process.poll()
                if code is None:
                    continue
                del running[device]
                if code:
                    where = f"; {log(name)} says why" if together else ""
                    raise UserError(f"{name}: ended with exit code {code}{where}; what is done is kept for a new run")
                bar.update()


def _start(command: Sequence[str], device: str, output: Path | None) -> subprocess.Popen[bytes]:
    environment = {**os.environ, **({"CUDA_VISIBLE_DEVICES": device} if device else {})}
    if output is None:
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE)
    with output.open("ab") as file:
        return subprocess.Popen(command, env=environment, stdin=subprocess.PIPE, stdout=file, stderr=file)


@contextmanager
def _ending(running: Mapping[str, tuple[str, subprocess.Popen[bytes]]]) -> Iterator[None]:
    """End what is still running at the end."""
    try:
        yield
    finally:
        for _, process in running.values():
            process.kill()
            process.wait()
