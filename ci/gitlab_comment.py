"""Write a comment on a GitLab merge request, or write the one that is there anew.

    python ci/gitlab_comment.py pull_request/comment.md

Python's own library is all that it needs. GitLab sets CI_API_V4_URL, CI_MERGE_REQUEST_PROJECT_ID and
CI_MERGE_REQUEST_IID; the token in GITLAB_TOKEN needs the scope `api`. The comment that is there is the token's own with
the same first line.
API: https://docs.gitlab.com/api/notes/#merge-requests
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen


def ask(method: str, path: str, content: dict[str, str] | None = None) -> Any:
    """Send one request to GitLab and return its JSON.

    Raises:
        HTTPError: GitLab refuses.
    """
    request = Request(
        f"{os.environ['CI_API_V4_URL']}/{path}",
        method=method,
        data=None if content is None else json.dumps(content).encode(),
        headers={"PRIVATE-TOKEN": os.environ["GITLAB_TOKEN"], "Content-Type": "application/json"},
    )
    with urlopen(request, timeout=60) as response:
        return json.load(response)


def notes(path: str) -> Iterator[dict[str, Any]]:
    """All comments of a merge request, page by page."""
    page = 1
    while found := ask("GET", f"{path}?per_page=100&page={page}"):
        yield from found
        page += 1


def write_comment(body: str) -> None:
    """Put the comment on the merge request, in the place of the last one with its first line."""
    project, merge_request = os.environ["CI_MERGE_REQUEST_PROJECT_ID"], os.environ["CI_MERGE_REQUEST_IID"]
    path = f"projects/{project}/merge_requests/{merge_request}/notes"
    me = ask("GET", "user")["id"]
    heading = body.partition("\n")[0]
    own = [note["id"] for note in notes(path) if note["author"]["id"] == me and note["body"].startswith(heading)]
    if own:
        ask("PUT", f"{path}/{own[0]}", {"body": body})
    else:
        ask("POST", path, {"body": body})


def main() -> None:
    try:
        write_comment(Path(sys.argv[1]).read_text(encoding="utf-8"))
    except HTTPError as error:
        raise SystemExit(
            f"error: GITLAB_TOKEN: {error.url} answered {error.code} {error.reason}; the token needs the scope api and "
            "the role Reporter, and may not be a protected variable"
        ) from None


if __name__ == "__main__":
    main()
