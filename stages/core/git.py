"""Git's own command."""

from __future__ import annotations

import subprocess


def run_git(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Run a Git command in the working folder; without Git, as outside of a repository, it fails."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, text=True)
    except FileNotFoundError:
        return subprocess.CompletedProcess(arguments, 127, "", "git: not found")
