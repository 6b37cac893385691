"""Find the tables and rules that params.yaml names, in the repository or in DVC's copy of it.

    python -m stages.find_inputs

`dvc exp run --queue` and `--temp` run in a copy that has only what Git tracks. There, files of the user's own are
linked to from where the stages after this one read them, so that DVC hashes them as it does in the repository. Git is
told to overlook the links: DVC would commit them with the experiment, and applying it would put them in the files'
place. The output is neither in Git nor in DVC's cache: so each copy lacks it, and runs this stage first.

dvc.yaml cannot name the tables of a list. So the output has a link to each table of `data.extra`: DVC reads what links
lead to, and runs `ingest` again where a table has changed. Likewise models/.found has links to the adapters of
`decoding.ensemble` for the stages that decode; those named by an experiment or a revision are what it is when they run.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import replacing, write_text
from stages.core.git import run_git
from stages.core.params import load_params

SPLITS = ("train", "dev", "test")
_PATTERN = re.compile(r"[\\*?\[\]]| $")  # what means something to Git in a list of paths to ignore


def find(path: Path, root: Path, remedy: str) -> None:
    """Make sure that there is a file at `path`; one that only the repository has is linked to.

    Raises:
        UserError: there is none.
    """
    if path.exists():
        return
    original = root / path
    if not original.is_file():
        raise UserError(f"{path}: not found; {remedy}")
    path.parent.mkdir(parents=True, exist_ok=True)
    overlook(path)
    path.symlink_to(original)


def overlook(path: Path) -> None:
    """Have the copy's Git, which is its own, take a path for ignored; one outside of the copy it never sees."""
    answer = run_git("rev-parse", "--show-toplevel", "--git-path", "info/exclude")
    if answer.returncode:
        return
    top, exclude = map(Path, answer.stdout.splitlines())
    place = path.parent.resolve() / path.name
    if place.is_relative_to(top):
        exclude.parent.mkdir(parents=True, exist_ok=True)
        with exclude.open("a", encoding="utf-8") as file:
            file.write("/" + _PATTERN.sub(r"\\\g<0>", place.relative_to(top).as_posix()) + "\n")


def link(path: Path, folder: Path) -> None:
    """Link to a file under its own name; relatively, so that a repository may move with its tables."""
    place = path.parent.resolve() / path.name
    (folder / path.name).symlink_to(os.path.relpath(place, folder.resolve()))


def main() -> None:
    params = load_params()
    root = paths.project_root()
    for split in SPLITS:
        find(Path(params.data.source) / f"{split}.csv", root, "put the table there or set data.source to its folder")
    find(Path(params.clean.rules), root, "set clean.rules to a table of rules")
    for table in params.data.extra:
        find(Path(table.path), root, "put the table there or take it out of data.extra")
    with replacing(paths.INPUTS_FOUND) as folder:
        folder.mkdir()
        write_text(folder / "README", "Tables and rules are within reach.\n")  # DVC takes an empty folder for cached
        for table in params.data.extra:
            link(Path(table.path), folder)
    with replacing(paths.ADAPTERS_FOUND) as folder:
        folder.mkdir()
        write_text(folder / "README", "Links to the folders of decoding.ensemble.\n")
        for number, adapter in enumerate(root / name for name in params.decoding.ensemble):
            if adapter.is_dir():
                (folder / str(number)).mkdir()
                for file in filter(Path.is_file, adapter.iterdir()):
                    link(file, folder / str(number))


if __name__ == "__main__":
    run_stage(main)
