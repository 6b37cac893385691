"""Adapters of other runs: in a folder, or in the outputs of a DVC experiment or a Git revision."""

from __future__ import annotations

from pathlib import Path

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.scm import RevError

from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import replacing
from stages.core.paths import partial_folder, project_root

WEIGHTS = "adapter_model.safetensors"


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
        revision = DVCFileSystem(str(project_root()), rev=name)
        target: Path = partial_folder() / "adapters" / revision.repo.get_rev()[:16]
        if not target.is_dir():
            with replacing(target) as temporary:
                revision.get(paths.ADAPTER.as_posix(), str(temporary), recursive=True)
                if not (temporary / WEIGHTS).is_file():
                    raise FileNotFoundError(WEIGHTS)
    except (RevError, DvcException, FileNotFoundError):
        raise UserError(
            f"params.yaml: decoding.ensemble: {name!r} has no adapter here; name a folder, or an experiment of "
            "`dvc exp show` whose outputs are in the cache"
        ) from None
    return target
