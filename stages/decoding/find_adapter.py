"""The adapter that a run writes with, and those of other runs: in a folder, a DVC experiment or a Git revision."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from filelock import FileLock

from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import remove, replacing
from stages.core.params import Params
from stages.core.paths import partial_folder, project_root
from stages.core.revisions import Revision, open_revision

FOLDS = "folds"
"""What stands in `decoding.ensemble` for the adapters of all folds."""
WEIGHTS = "adapter_model.safetensors"


def adapter_in_use(params: Params) -> Path:
    """The folder of the adapter that a run writes with: the last that it trained on train, chosen by dev."""
    return paths.ADAPTER if params.align.objective == "none" else paths.ALIGNED


def find_adapters(names: Sequence[str]) -> list[Path]:
    """The folders of the adapters that `decoding.ensemble` names, `folds` for those of all folds.

    Raises:
        UserError: there is no such adapter.
    """
    return [folder for name in names for folder in (find_folds() if name == FOLDS else [find_adapter(name)])]


def find_folds() -> list[Path]:
    """The folders of the folds' adapters, by their number.

    Raises:
        UserError: there are none.
    """
    folders = [path for path in paths.FOLDS.glob("*") if path.is_dir()]
    if not folders:
        raise UserError("params.yaml: decoding.ensemble: folds: there are none; set folds.n")
    return sorted(folders, key=lambda path: int(path.name))


def find_adapter(name: str) -> Path:
    """The folder of an adapter; that of an experiment or revision is copied out of DVC's cache.

    Raises:
        UserError: there is no adapter of that name.
    """
    folder = project_root() / name
    if folder.is_dir():
        if not (folder / WEIGHTS).is_file():
            raise UserError(f"params.yaml: decoding.ensemble: {name} holds no {WEIGHTS}; name an adapter's folder")
        return folder
    try:
        revision = open_revision(name)
        target: Path = partial_folder() / "adapters" / revision.commit[:16]
        target.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(target.with_suffix(".lock")):  # experiments that run side by side wait for one another
            if not target.is_dir():
                with replacing(target) as temporary:
                    _copy_last(revision, temporary)
    except (LookupError, FileNotFoundError):
        raise UserError(
            f"params.yaml: decoding.ensemble: {name!r} has no adapter here; name a folder, or an experiment of "
            "`dvc exp show` whose outputs are in the cache"
        ) from None
    return target


def _copy_last(revision: Revision, target: Path) -> None:
    """Copy the last adapter that a revision has."""
    for folder in (paths.ALIGNED, paths.ADAPTER):
        with suppress(FileNotFoundError):
            revision.copy(folder, target)
        if (target / WEIGHTS).is_file():
            return
        remove(target)
    raise FileNotFoundError(WEIGHTS)
