"""A server on loopback that answers what huggingface_hub asks of the Hub, up and down, and a folder to ask it from."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import subprocess
import sys
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[1]
TOKEN = "hf_SecretOfTheTestQ7x2Lm"

Files = dict[str, bytes]


@dataclass(frozen=True)
class Request:
    """One request as it came in; `host` tells the Hub (127.0.0.1) from its store of large files (localhost)."""

    method: str
    host: str
    path: str
    authorization: str | None


@dataclass(frozen=True)
class Reply:
    status: int
    body: bytes = b""
    headers: dict[str, str] = field(default_factory=dict)


class FakeHub:
    """Serves repositories as huggingface.co does: metadata and small files itself, weights from another host.

    The one token that it knows is TOKEN; anonymous requests are answered too.
    """

    def __init__(self) -> None:
        self.requests: list[Request] = []
        """All requests, in the order in which they came."""
        self.gated: set[str] = set()
        """Repositories whose files only those may read who accepted their terms."""
        self.accepted: set[str] = set()
        """Gated repositories whose terms the owner of TOKEN accepted."""
        self.store_is_down = False
        """Answer each request for a large file with an error."""
        self.owners = {"my-team"}
        """Whose repositories the owner of TOKEN may make and write to."""
        self.private: set[str] = set()
        """Repositories that only the owner of TOKEN sees."""
        self._uploads: dict[str, bytes] = {}
        self._branches: dict[str, dict[str, str]] = {}
        self._commits: dict[tuple[str, str], Files] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        self.store = f"http://localhost:{self._server.server_port}/store"

    def __enter__(self) -> FakeHub:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Go down: from here on connections are refused."""
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    def commit(self, repo: str, files: Files) -> str:
        """Put a commit on the main branch of a repository, and return its name."""
        commit = hashlib.sha1(repr((repo, sorted(files.items()))).encode()).hexdigest()
        self._commits[repo, commit] = files
        self._branches.setdefault(repo, {})["main"] = commit
        return commit

    def files(self, repo: str) -> Files:
        """What is on the main branch of a repository."""
        return self._commits[repo, self._branches[repo]["main"]]

    def fetched(self) -> list[str]:
        """The names of the files whose content was sent, in alphabetical order."""
        return sorted(
            request.path.rpartition("/")[2]
            for request in self.requests
            if request.method == "GET" and ("/resolve/" in request.path or request.path.startswith("/store/"))
        )

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                body = self._body()
                reply = fake._reply(self.command, self.headers, self.path, body)
                self.send_response(reply.status)
                for name, value in {"Content-Length": str(len(reply.body)), **reply.headers}.items():
                    self.send_header(name, value)
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(reply.body)

            do_HEAD = do_POST = do_PUT = do_GET

            def _body(self) -> bytes:
                if self.headers["Transfer-Encoding"] != "chunked":
                    return self.rfile.read(int(self.headers["Content-Length"] or 0))
                parts = []
                while size := int(self.rfile.readline(), 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _reply(self, method: str, headers: Any, url: str, body: bytes) -> Reply:
        path, token = urlsplit(url).path, headers["Authorization"]
        self.requests.append(Request(method, headers["Host"].partition(":")[0], path, token))
        if token not in (None, f"Bearer {TOKEN}"):
            return _error(401, "Invalid credentials in Authorization header")
        parts = [unquote(part) for part in path.strip("/").split("/")]
        if method in ("POST", "PUT"):
            return self._write(parts, token, body)
        match parts:
            case ["store", _, _, _] if self.store_is_down:
                return Reply(500)
            case ["store", repo, commit, name]:
                return Reply(200, self._commits[unquote(repo), commit][name])
            case ["api", "models", owner, name, ("revision" | "tree") as asked, revision]:
                found = self._find(f"{owner}/{name}", revision, token)
                if isinstance(found, Reply):
                    return found
                return _json(_info(found) if asked == "revision" else _tree(self._commits[found]))
            case ["api", "models", owner, name]:
                found = self._find(f"{owner}/{name}", "main", token)
                if isinstance(found, Reply):
                    return found
                return _json({**_info(found), "private": found[0] in self.private})
            case [owner, name, "resolve", revision, file]:
                return self._file(f"{owner}/{name}", revision, file, token)
        return Reply(404)

    def _write(self, parts: list[str], token: str | None, body: bytes) -> Reply:
        """Repositories, and commits of one branch: small files come with them, large ones go to the store before."""
        match parts:
            case ["api", "repos", "create"]:
                asked = json.loads(body)
                repo = f"{asked['organization']}/{asked['name']}"
                if not token or asked["organization"] not in self.owners:
                    return _error(403, "You don't have the rights to create a model under this namespace")
                self.commit(repo, {})
                if asked["visibility"] == "private":
                    self.private.add(repo)
                return _json({"url": f"{self.endpoint}/{repo}"})
            case ["api", "validate-yaml"]:
                return _json({"errors": [], "warnings": []})
            case ["store", oid]:
                if self.store_is_down:
                    return _error(503, "The store is down")
                self._uploads[oid] = body
                return Reply(200)
            case [_, _, "info", "lfs", "objects", "batch"]:
                wanted = json.loads(body)["objects"]
                ways = [{"upload": {"href": f"{self.store}/{each['oid']}"}} for each in wanted]
                objects = [each | {"actions": way} for each, way in zip(wanted, ways, strict=True)]
                return _json({"transfer": "basic", "objects": objects})
            case ["api", "models", owner, name, ("preupload" | "commit") as what, "main"]:
                repo = f"{owner}/{name}"
                if not token or owner not in self.owners:
                    return _error(403, "You don't have write access to this repository")
                if what == "preupload":
                    return _json({"files": [self._mode(repo, each["path"]) for each in json.loads(body)["files"]]})
                commit = self.commit(repo, self.files(repo) | self._changes(body))
                return _json({"commitUrl": f"{self.endpoint}/{repo}/commit/{commit}", "commitOid": commit})
        return Reply(404)

    def _mode(self, repo: str, path: str) -> dict[str, Any]:
        """How a file is to be sent, and what is there of it: the hash that Git, or its store of large files, has."""
        content = self.files(repo).get(path)
        oid = None
        if content is not None:
            blob = b"blob %d\0%s" % (len(content), content)
            oid = hashlib.sha256(content).hexdigest() if _is_large(path) else hashlib.sha1(blob).hexdigest()
        mode = "lfs" if _is_large(path) else "regular"
        return {"path": path, "uploadMode": mode, "shouldIgnore": False, "oid": oid}

    def _changes(self, body: bytes) -> Files:
        """The files of a commit, of which there is one in each line."""
        changed: Files = {}
        for line in body.splitlines():
            match json.loads(line):
                case {"key": "file", "value": {"path": path, "content": content}}:
                    changed[path] = base64.b64decode(content)
                case {"key": "lfsFile", "value": {"path": path, "oid": oid}}:
                    changed[path] = self._uploads[oid]
        return changed

    def _find(self, repo: str, revision: str, token: str | None) -> tuple[str, str] | Reply:
        if repo not in self._branches or (repo in self.private and token is None):
            # The Hub does not tell a stranger whether a repository is private or not there.
            return _error(404 if token else 401, "Repository not found", "RepoNotFound")
        commit = self._branches[repo].get(revision, revision)
        if (repo, commit) not in self._commits:
            return _error(404, f"Invalid rev id: {revision}", "RevisionNotFound")
        return repo, commit

    def _file(self, repo: str, revision: str, file: str, token: str | None) -> Reply:
        found = self._find(repo, revision, token)
        if isinstance(found, Reply):
            return found
        if repo in self.gated and not (token and repo in self.accepted):
            return _error(403 if token else 401, f"Access to model {repo} is restricted", "GatedRepo")
        if file not in self._commits[found]:
            return _error(404, "Entry not found", "EntryNotFound")
        content = self._commits[found][file]
        if not _is_large(file):
            return Reply(200, content, {"X-Repo-Commit": found[1], "ETag": f'"{hashlib.sha1(content).hexdigest()}"'})
        headers = {
            "X-Repo-Commit": found[1],
            "X-Linked-ETag": f'"{hashlib.sha256(content).hexdigest()}"',
            "X-Linked-Size": str(len(content)),
            "Location": f"{self.store}/{repo.replace('/', '%2F')}/{found[1]}/{file}",
        }
        return Reply(302, b"", headers)


def _is_large(file: str) -> bool:
    return file.endswith((".safetensors", ".bin", ".gguf"))


def _info(found: tuple[str, str]) -> dict[str, str]:
    repo, commit = found
    return {"id": repo, "sha": commit}


def _tree(files: Files) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for path, content in files.items():
        entry = {"type": "file", "path": path, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
        if _is_large(path):
            lfs = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 132}
            entry["lfs"] = lfs
        entries.append(entry)
    return entries


def _json(value: object) -> Reply:
    return Reply(200, json.dumps(value).encode(), {"Content-Type": "application/json"})


def _error(status: int, message: str, code: str | None = None) -> Reply:
    return Reply(status, b"", {"X-Error-Message": message, **({"X-Error-Code": code} if code else {})})


class Workspace:
    """A folder with params.yaml and a registry, and an empty cache of the Hub beside it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "workspace"
        self.folder.mkdir()
        self.cache = folder / "cache"

    def choose(self, name: str, **registry: dict[str, Any]) -> None:
        """Write params.yaml as the repository has it, with another model, and models.yaml with the entries given."""
        params = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
        params["model"]["name"] = name
        yaml = YAML(typ="safe", pure=True)
        yaml.dump(params, self.folder / "params.yaml")
        yaml.dump(registry, self.folder / "models.yaml")

    def python(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run Python here; from outside come neither a token, nor a cache, nor another Hub than that of HF_ENDPOINT."""
        inherited = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("HF_", "HUGGING", "TRANSFORMERS_", "DVC_")) and not name.upper().endswith("_PROXY")
        }
        return subprocess.run(
            [sys.executable, *arguments],
            cwd=self.folder,
            env={
                **inherited,
                "PYTHONPATH": str(ROOT),
                "HF_HOME": str(self.cache),
                "HF_HUB_DISABLE_PROGRESS_BARS": "1",
                "HF_HUB_DISABLE_TELEMETRY": "1",
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
        )

    def files(self) -> list[str]:
        """All files here, but the parameters and the registry."""
        found = (path.relative_to(self.folder).as_posix() for path in self.folder.rglob("*") if not path.is_dir())
        return sorted(set(found) - {"params.yaml", "models.yaml"})
