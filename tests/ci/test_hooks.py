"""Git's hooks, as `make hooks` installs them, through Git itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.clone import Clone


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy of the repository, with hooks, a bare repository to push to, and a note of its own in DVC."""
    folder = tmp_path_factory.mktemp("hooks")
    clone = Clone(folder / "repository", small=False)
    clone.link_environment()
    clone.run("make", "hooks")
    clone.run("git", "init", "-q", "--bare", "../central.git")
    clone.git("remote", "add", "origin", "../central.git")
    return clone


def test_a_commit_is_checked_and_formatted(clone: Clone) -> None:
    module = clone.folder / "stages/new.py"
    module.write_text("import os\nx = 'a'\n", encoding="utf-8")
    clone.git("add", "stages/new.py")
    refused = commit(clone)
    assert refused.returncode == 1
    assert "F401" in refused.stderr
    assert "ruff format" in refused.stderr
    assert "files were modified by this hook" in refused.stderr
    assert module.read_text(encoding="utf-8") == 'import os\n\nx = "a"\n'
    module.write_text('x = "a"\n', encoding="utf-8")
    clone.git("add", "stages/new.py")
    accepted = commit(clone)
    assert accepted.returncode == 0, accepted.stderr
    assert "dvc status" in accepted.stderr


def test_dvc_pushes_with_git_and_follows_a_branch(clone: Clone, tmp_path: Path) -> None:
    note = clone.folder / "note.txt"
    for branch, text in (("one", "first"), ("two", "second")):
        clone.git("switch", "-q", "-c", branch)
        note.write_text(text, encoding="utf-8")
        clone.dvc("add", "note.txt")
        clone.commit(branch)
    clone.git("switch", "-q", "one")
    assert note.read_text(encoding="utf-8") == "first"
    clone.git("push", "-q", "origin", "one")  # there is no remote of DVC's yet
    clone.dvc("remote", "add", "store", str(tmp_path))
    clone.git("push", "-q", "origin", "one")  # there is none by default
    clone.dvc("remote", "default", "store")
    clone.commit("a remote")
    clone.git("push", "-q", "origin", "one")
    assert [path.read_text(encoding="utf-8") for path in tmp_path.glob("files/md5/*/*")] == ["first"]


def test_a_fresh_clone_changes_branches_in_silence(clone: Clone, tmp_path: Path) -> None:
    clone.run("git", "clone", "-q", "--branch", "main", str(clone.folder), str(tmp_path / "fresh"))
    fresh = Clone.__new__(Clone)
    fresh.folder = tmp_path / "fresh"
    fresh.link_environment()
    fresh.run("make", "hooks")
    assert fresh.run("git", "switch", "-q", "-c", "mine").returncode == 0


def commit(clone: Clone) -> subprocess.CompletedProcess[str]:
    return clone.run("git", "commit", "-q", "-m", "new", check=False)
