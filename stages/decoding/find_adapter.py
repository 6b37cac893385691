"""Adapters of other runs: in a folder, or in the outputs of a DVC experiment or a Git revision."""

from __future__ import annotations

from pathlib import Path

from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import replacing
from stages.core.paths import partial_folder, project_root
from stages.core.revisions import open_revision

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
        revision = open_revision(name)
        target: Path = partial_folder() / "adapters" / revision.commit[:16]
        if not target.is_dir():
            with replacing(target) as temporary:
                revision.copy(paths.ADAPTER, temporary)
                if not (temporary / WEIGHTS).is_file():
                    raise FileNotFoundError(WEIGHTS)
    except (LookupError, FileNotFoundError):
        raise UserError(
            f"params.yaml: decoding.ensemble: {name!r} has no adapter here; name a folder, or an experiment of "
            "`dvc exp show` whose outputs are in the cache"
        ) from None
    return target
