"""Run what is left of the pipeline, and keep its submission under a name of its own, with a record beside it.

    python -m stages.submit

`dvc repro` does what params.yaml says: where a run was interrupted, it goes on. submissions/NAME has submission.csv,
params.yaml and the record, as JSON and to read. The name tells the commit and the content, so no two submissions share
one; the same run, however often it is interrupted, ends in the same name and the same bytes.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import read_json, replacing, sha256
from stages.core.git import run_git
from stages.core.params import Params, flat, load_params, read_yaml
from stages.decoding.find_adapter import FOLDS, WEIGHTS, find_adapter
from stages.finishing.record import Record, as_text, differences, hashes, headline
from stages.finishing.user_files import user_files

PARAMS = Path("params.yaml")
DECIDING = ("params.yaml", "models.yaml", "dvc.yaml", "stages", "data/rules", "data/sample")
"""What a run's result follows from, of what Git tracks."""


def git(*arguments: str) -> str:
    """What a Git command prints.

    Raises:
        UserError: it fails, as where there is no commit yet.
    """
    done = run_git(*arguments)
    if done.returncode:
        said = done.stderr.strip().splitlines() or ["failed"]
        raise UserError(f"git {arguments[0]}: {said[0]}; a submission's record names the commit, so commit first")
    return done.stdout


def wait_for_the_dying(seconds: float = 10) -> None:
    """Give a run that was just killed the time to be gone: until then DVC finds what it locked busy, and gives up."""
    locks = Path(".dvc/tmp/rwlock")
    holders = re.findall(r'"pid": (\d+)', locks.read_text(encoding="utf-8")) if locks.is_file() else []
    end = time.monotonic() + seconds
    while time.monotonic() < end and any(map(is_alive, map(int, holders))):
        time.sleep(0.2)


def is_alive(process: int) -> bool:
    """Whether there is a process of this number, if only as a zombie."""
    try:
        os.kill(process, 0)
    except OSError as error:
        return isinstance(error, PermissionError)  # that of another user
    return True


def repro() -> None:
    """Run the stages that are stale; what they print is seen as they print it.

    Raises:
        UserError: one fails.
    """
    wait_for_the_dying()
    done = subprocess.run([sys.executable, "-m", "dvc", "repro"])
    if done.returncode:
        raise UserError("dvc repro: failed, as it says above; mend that, and the same command goes on from there")


def adapters(params: Params) -> dict[str, str]:
    """The SHA-256 of each adapter's weights: those that the pipeline made, by folder, and those of the ensemble."""
    lock = YAML(typ="safe").load(Path("dvc.lock").read_text(encoding="utf-8"))
    outputs = [Path(out["path"]) for stage in lock["stages"].values() for out in stage.get("outs", [])]
    made = [file for out in outputs if out.parts[0] == "models" for file in sorted(out.rglob(WEIGHTS))]
    named = {name: sha256(find_adapter(name) / WEIGHTS) for name in params.decoding.ensemble if name != FOLDS}
    return {file.parent.as_posix(): sha256(file) for file in made} | named


def inputs(params: Params) -> list[Path]:
    """The files that the submission was made from: the user's, and what training and generation read of them."""
    return [*user_files(params), paths.MERGED, paths.DEV, paths.TEST]


def make_record(params: Params) -> Record:
    """All that the record says of the run that lies in the working folder."""
    values = read_yaml(PARAMS)
    committed: dict[str, Any] = YAML(typ="safe", pure=True).load(git("show", f"HEAD:./{PARAMS}"))
    status = git("status", "--porcelain", "--untracked-files=all", "--", *DECIDING).splitlines()
    return {
        "commit": git("rev-parse", "HEAD").strip(),
        "changed": sorted(line[3:] for line in status),
        "params_changed": differences(dict(flat(committed)), dict(flat(values))),
        "params": values,
        "base": read_json(paths.MANIFEST),
        "adapters": adapters(params),
        "machine": read_json(paths.MACHINE),
        "submission": {
            "rows": len(paths.SUBMISSION.read_text(encoding="utf-8").splitlines()) - 1,
            "sha256": sha256(paths.SUBMISSION),
        },
        "scores": headline(read_json(paths.EVAL_SCORES)),
        "data": hashes(inputs(params)),
    }


def keep(record: Record) -> Path:
    """Copy the submission into a folder of its own, with the record; the folder's name follows from both."""
    text = json.dumps(record, ensure_ascii=False, indent=2) + "\n"
    name = f"{record['commit'][:7]}-{hashlib.sha256(text.encode()).hexdigest()[:8]}"
    target = paths.SUBMISSIONS / name
    with replacing(target) as folder:
        folder.mkdir()
        shutil.copyfile(paths.SUBMISSION, folder / paths.SUBMISSION.name)
        shutil.copyfile(PARAMS, folder / PARAMS.name)
        (folder / "record.json").write_text(text, encoding="utf-8")
        (folder / "record.md").write_text(as_text(name, record), encoding="utf-8")
    return target


def deciding() -> tuple[str, bytes]:
    """What must not change while the pipeline runs: the commit and the parameters."""
    return git("rev-parse", "HEAD"), PARAMS.read_bytes()


def main() -> None:
    params = load_params(PARAMS)
    before = deciding()
    repro()
    if deciding() != before:
        raise UserError(f"{PARAMS} or the commit: changed during the run; put it back, or run the same command again")
    target = keep(make_record(params))
    print((target / "record.md").read_text(encoding="utf-8"))
    print(f"{target / paths.SUBMISSION.name} is the file to hand in; record.md beside it says what it was made from")


if __name__ == "__main__":
    run_stage(main)
