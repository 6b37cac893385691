"""A copy of the repository as its own Git and DVC repository, small enough to run whole in a test."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import time
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from tests.preloaded_python import COMMANDS, folder_of_python
from tests.tiny import build_tiny_checkpoint

ROOT = Path(__file__).parents[1]
TINY = "tiny"
CHECKPOINT = Path("models/weights/tiny")
SMALL = {
    "model": {"name": TINY},
    "data": {"limit": 12},
    "augment": {"paraphrase": {"n": 0}, "speaker_swap": {"n": 4}, "synthesize": {"n": 0}},
    "lora": {"r": 4, "dropout": 0.1},
    "train": {
        "epochs": 2,
        "eval_steps": 2,
        "max_tokens_per_batch": 512,
        "preview_samples": 2,
        "preview_max_new_tokens": 8,
    },
    "decoding": {"max_new_tokens": 8, "tune_samples": 2, "tune_num_beams": [1, 2], "tune_length_penalty": [1.0]},
    # Kiwi takes four seconds to start, and each stage that scores starts one; other tests score with it.
    "evaluate": {"morphemes": "mecab" if find_spec("mecab") else "kiwi"},
}


def stages_run(log: str) -> list[str]:
    """The stages that ran, by what DVC printed."""
    return re.findall(r"Running stage '(\w+)'", log)


class Clone:
    """The files that Git tracks, or would, committed in a folder of their own; the base model is a tiny one."""

    def __init__(self, folder: Path, *, small: bool = True) -> None:
        self.folder = folder
        self.copy_files()
        (folder / "dvc.lock").unlink(missing_ok=True)
        if small:
            self.edit("models.yaml", {TINY: _entry()})
            self.edit("params.yaml", SMALL)
            build_tiny_checkpoint(folder / CHECKPOINT)
        self.git("init", "-q", "-b", "main")
        self._name_user()
        self.commit("start")

    @classmethod
    def of(cls, repository: Path, folder: Path) -> Clone:
        """What a colleague gets by `git clone`: nothing of DVC's cache, of .env or of the base model."""
        clone = cls.__new__(cls)
        clone.folder = folder
        subprocess.run(["git", "clone", "-q", str(repository), str(folder)], check=True)
        clone._name_user()
        return clone

    @classmethod
    def copy(cls, repository: Path, folder: Path) -> Clone:
        """Another one in the same state, DVC's cache and the base model included; the environment is to be linked."""
        clone = cls.__new__(cls)
        clone.folder = folder
        shutil.copytree(repository, folder, symlinks=True, ignore=shutil.ignore_patterns(".venv"))
        return clone

    def copy_files(self) -> None:
        listed = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=ROOT,
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for name in filter(None, listed.split("\0")):
            if (ROOT / name).is_file():
                target = self.folder / name
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(ROOT / name, target)

    def link_environment(self) -> None:
        """Give `make` the environment that runs the tests, in place of one that it would install."""
        scripts = self.folder / ".venv/bin"
        scripts.mkdir(parents=True)
        for script in Path(sys.executable).parent.iterdir():
            (scripts / script.name).symlink_to(script)
        for command in COMMANDS:
            (scripts / command).unlink()
            (scripts / command).symlink_to(Path(folder_of_python(self.environment())) / command)
        # Newer than the lock, whatever its age: nothing is to be installed.
        os.utime(self.folder / "requirements.lock", (0, 0))
        (self.folder / ".venv/.installed").touch()

    def edit(self, name: str, changes: dict[str, Any]) -> None:
        """Merge changes into a YAML file."""
        yaml = YAML()
        values = yaml.load(self.folder / name)
        _merge(values, changes)
        yaml.dump(values, self.folder / name)

    def run(self, *command: str, check: bool = True, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command as a user with the environment activated would."""
        environment = self.environment(**env)
        done = subprocess.run(command, cwd=self.folder, env=environment, capture_output=True, text=True, timeout=900)
        assert not check or done.returncode == 0, f"{command}\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}"
        return done

    def environment(self, **env: str) -> dict[str, str]:
        """The variables of a user whose environment is activated, and whose stages find libraries imported."""
        # A `make` of a test is not part of the `make test` that may run it.
        others = ("DVC_ROOT", "PYTHONPATH", "MAKEFLAGS", "MAKELEVEL", "MFLAGS")
        own = {key: value for key, value in os.environ.items() if key not in others}
        # The tiny model's products are too small to share, and threads of two test processes wait for one another.
        own |= {"OMP_NUM_THREADS": "1", "NO_COLOR": "1", "COLUMNS": "200", **env}
        folders = [folder_of_python(own), str(Path(sys.executable).parent), own["PATH"]]
        return {**own, "PATH": os.pathsep.join(folders)}

    def dvc(self, *args: str, check: bool = True, **env: str) -> str:
        done = self.run("dvc", *args, check=check, **env)
        return done.stdout + done.stderr

    def git(self, *args: str) -> str:
        return self.run("git", *args).stdout

    def commit(self, message: str) -> None:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", message)

    def wait_for_queue(self, seconds: int = 600) -> str:
        """Wait until no queued experiment is left; what `dvc queue status` says then."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            status = self.dvc("queue", "status")
            if "Queued" not in status and "Running" not in status:
                return status
            time.sleep(3)  # to ask takes longer than a second of work
        raise AssertionError(status)

    def restore(self) -> None:
        """Go back to the last commit, outputs included."""
        self.git("checkout", "-q", "--", ".")
        self.dvc("checkout")

    def _name_user(self) -> None:
        self.git("config", "user.name", "Test")
        self.git("config", "user.email", "test@example.com")

    def bytes(self, name: str) -> bytes:
        return (self.folder / name).read_bytes()


def _entry() -> dict[str, Any]:
    return {
        "source": "local",
        "path": str(CHECKPOINT),
        "prompt": "plain",
        "max_length": 2048,
        "licence": "apache-2.0",
    }


def _merge(values: Any, changes: dict[str, Any]) -> None:
    for key, change in changes.items():
        if isinstance(change, dict) and key in values:
            _merge(values[key], change)
        else:
            values[key] = change
