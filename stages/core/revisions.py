"""Files as another revision has them: in Git, or by their hashes in DVC's cache."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dvc.api import DVCFileSystem
from dvc.exceptions import DvcException
from dvc.scm import SCMError
from dvc_data.index import DataIndexDirError

from stages.core.paths import project_root

WORKSPACE = "workspace"
"""What stands in a revision's place for the files as they lie in the working folder."""
_ABSENT = (DvcException, DataIndexDirError, OSError)


@dataclass(frozen=True)
class Revision:
    """The project at a commit.

    Attributes:
        commit: its hash.
        folder: the project's own within the Git repository, from "/" on.
    """

    files: DVCFileSystem
    commit: str
    folder: str

    def read(self, path: Path) -> bytes:
        """A file's content.

        Raises:
            FileNotFoundError: the revision has no such file, or it is not in DVC's cache.
        """
        try:
            content: bytes = self.files.read_bytes(f"{self.folder}/{path.as_posix()}")
        except _ABSENT:
            raise FileNotFoundError(path) from None
        return content

    def copy(self, path: Path, target: Path) -> None:
        """Copy a file or a folder to `target`, which does not exist yet.

        Raises:
            FileNotFoundError: as `read`.
        """
        try:
            self.files.get(f"{self.folder}/{path.as_posix()}", str(target), recursive=True)
        except _ABSENT:
            raise FileNotFoundError(path) from None


def open_revision(name: str) -> Revision:
    """The project at a Git revision or a DVC experiment; its repository may be a folder of a larger one.

    Raises:
        LookupError: there is no such revision.
    """
    root = project_root()
    files = DVCFileSystem(str(root), rev=name, subrepos=True)
    try:
        folder = root.relative_to(Path(files.repo.scm.root_dir).resolve())
    except SCMError:
        raise LookupError(name) from None
    return Revision(files, files.repo.get_rev(), f"/{folder.as_posix()}" if folder.parts else "")
