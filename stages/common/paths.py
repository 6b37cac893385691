"""Where things live that outlast a run, and that queued experiments share with the repository."""

from __future__ import annotations

import os
from pathlib import Path


def project_root() -> Path:
    """The repository's own folder.

    Queued and temporary experiments run in a copy; DVC points `DVC_ROOT` at the repository they came from.
    """
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def weights_folder() -> Path:
    """Base models in safetensors, unpacked once: neither in Git nor in DVC's cache."""
    return project_root() / "models" / "weights"


def checkpoints_folder() -> Path:
    """Checkpoints of trainings under way: outside of DVC's outputs, which a rerun deletes."""
    return project_root() / "models" / "checkpoints"


def partial_folder() -> Path:
    """Answers of a generation under way, likewise outside of DVC's outputs."""
    return project_root() / "models" / "partial"
