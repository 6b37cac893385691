"""A server on loopback that speaks the OpenAI protocol, and a folder for a stage to ask it from."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import struct
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal, Self

import pytest
from ruamel.yaml import YAML

from tests.preloaded_python import folder_of_python

ROOT = Path(__file__).parents[1]
KEY = "up_Zk81vQ0xSecretOfTheTest93"

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class Fault:
    """What a request gets in place of an answer."""

    status: int
    body: str = '{"error": {"message": "as told by the test"}}'
    headers: dict[str, str] = field(default_factory=dict)
    breaks: Literal["", "reset", "stalls"] = ""
    """How the connection ends halfway through the body: it is reset, or nothing more comes."""


def obedient(messages: Messages) -> str:
    """Answer what the stages ask for: rewrite the dialogue given, or write one about the topic given."""
    question = json.loads(messages[-1]["content"])
    if "dialogue" in question:
        dialogue = re.sub(r"^(#Person\d+#): ", r"\1: 음, ", question["dialogue"], flags=re.MULTILINE)
        return json.dumps({"dialogue": dialogue, "summary": f"그날 {question['summary']}"}, ensure_ascii=False)
    lines = [f"#Person{1 + turn % 2}#: {question['topic']} 이야기 {turn}번째." for turn in range(question["turns"])]
    summary = f"#Person1#과 #Person2#가 {question['topic']}에 대해 이야기합니다."
    return json.dumps({"dialogue": "\n".join(lines), "summary": summary}, ensure_ascii=False)


class _Listener(ThreadingHTTPServer):
    request_queue_size = 256  # of the default five, the sixth client at once waits a second for its connection


class FakeOpenAI:
    """Answers `/v1/chat/completions` while its `with` block lasts, and remembers what it was asked.

    Args:
        answer: makes the answer to a request's messages, or what comes in its place.
        delay: seconds before an answer, by the number of the request.
    """

    def __init__(
        self, answer: Callable[[Messages], str | Fault] = obedient, delay: Callable[[int], float] = lambda number: 0.0
    ) -> None:
        self.answer = answer
        self.delay = delay
        self.model = "solar-pro2"
        self.faults: deque[Fault] = deque()
        """Sent to the next requests, in this order."""
        self.wants_key = True
        """Without, a request that carries a key is refused."""
        self.requests: list[dict[str, Any]] = []
        """The bodies of all requests, those that met a fault included."""
        self.header_names: set[str] = set()
        """In lower case, of all requests."""
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        self._server = _Listener(("127.0.0.1", 0), self._handler())
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        fake = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.header_names.update(name.lower() for name in self.headers)
                reply = fake._reply(self.path, self.headers["Authorization"] or "", body)
                content = reply.body.encode()
                self.send_response(reply.status)
                for name, value in {"Content-Type": "application/json", **reply.headers}.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content[: len(content) // 2] if reply.breaks else content)
                if reply.breaks == "stalls":
                    self.connection.recv(1)  # until the client has gone
                if reply.breaks:
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    self.connection.close()
                    self.close_connection = True

            def handle(self) -> None:
                with contextlib.suppress(OSError, ValueError):  # the client, or the handler, has closed the connection
                    super().handle()

            def log_message(self, format: str, *args: object) -> None:
                pass

        return Handler

    def _reply(self, path: str, authorization: str, body: dict[str, Any]) -> Fault:
        with self._lock:
            self.requests.append(body)
            number = len(self.requests)
            fault = self.faults.popleft() if self.faults else None
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            time.sleep(self.delay(number))
            return fault or self._answer(path, authorization, body)
        finally:
            with self._lock:
                self._at_once -= 1

    def _answer(self, path: str, authorization: str, body: dict[str, Any]) -> Fault:
        if path != "/v1/chat/completions":
            return Fault(404, "no such page", {"Content-Type": "text/plain"})
        if authorization != (f"Bearer {KEY}" if self.wants_key else ""):
            return _error(401, f"Incorrect API key provided: {authorization}")
        if body["model"] != self.model:
            return _error(404, f"The model {body['model']} does not exist")
        answer = self.answer(body["messages"])
        return answer if isinstance(answer, Fault) else completion(answer)


def completion(text: str, finish_reason: str = "stop", usage: tuple[int, int] | None = (1, 1)) -> Fault:
    """The reply that carries a text; `usage` is its prompt and completion tokens."""
    value: dict[str, Any] = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 0,
        "model": "solar-pro2",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish_reason}],
    }
    if usage:
        value["usage"] = {"prompt_tokens": usage[0], "completion_tokens": usage[1], "total_tokens": sum(usage)}
    return Fault(200, json.dumps(value))


def _error(status: int, message: str) -> Fault:
    return Fault(status, json.dumps({"error": {"message": message, "type": "invalid_request_error"}}))


class Workspace:
    """The working folder of a test, with a params.yaml; no key and no $DVC_ROOT come in from outside."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        monkeypatch.chdir(folder)
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        monkeypatch.setattr("sys.argv", ["stage"])  # a stage that is run in this process reads it
        for name in ("DVC_ROOT", "UPSTAGE_API_KEY"):
            monkeypatch.delenv(name, raising=False)
        self.set_params({})

    def set_params(self, changes: dict[str, Any]) -> None:
        """Write params.yaml as the repository has it, with some dotted keys changed; a missing key is an error."""
        params = YAML(typ="safe", pure=True).load(ROOT / "params.yaml")
        params["augment"]["llm"]["without_key"] = "stop"
        for key, value in changes.items():
            *sections, name = key.split(".")
            section = params
            for part in sections:
                section = section[part]
            section[name] = value
        YAML(typ="safe", pure=True).dump(params, self.folder / "params.yaml")

    def write(self, path: str, text: str) -> Path:
        target = self.folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, encoding="utf-8")
        return target

    def read(self, path: str) -> str:
        return (self.folder / path).read_text(encoding="utf-8")

    def run(self, stage: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a stage as DVC does, in a process of its own, which finds libraries imported."""
        variables = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **environment}
        variables["PATH"] = os.pathsep.join([folder_of_python(variables), variables["PATH"]])
        return subprocess.run(
            ["python", "-m", f"stages.{stage}", *arguments],
            cwd=self.folder,
            env=variables,
            capture_output=True,
            text=True,
            timeout=60,
        )
