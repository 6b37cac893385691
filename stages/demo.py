"""A page on this computer where one pastes a dialogue: `make demo`, or `python -m stages.demo --port 8000`.

It shows the adapter's summary as it is written, the base model's answer beside it, and the time each took. The server
answers 127.0.0.1 alone, and the page loads nothing from elsewhere.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from contextlib import nullcontext
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock
from typing import Any

from stages.core.errors import UserError, run_stage
from stages.core.params import load_params
from stages.pages.rendering import render
from stages.serving.summarizer import Summarizer

HOST = "127.0.0.1"
ADDRESS = "/summarize"
"""Where the page posts dialogues."""
LONGEST = 200_000
"""Bytes of a request: far more than a prompt holds."""
POLICY = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:"

logger = logging.getLogger(__name__)


class Demo(ThreadingHTTPServer):
    """Serves the page; one dialogue at a time is summarized."""

    daemon_threads = True

    def __init__(self, summarizer: Summarizer, port: int) -> None:
        super().__init__((HOST, port), Handler)
        self.summarizer = summarizer
        self.turn = Lock()

    @property
    def hosts(self) -> set[str]:
        """What a browser on this computer calls the server; another site's name may not lead here."""
        return {f"{name}:{self.server_port}" for name in (HOST, "localhost")}


class Handler(BaseHTTPRequestHandler):
    server: Demo

    def do_GET(self) -> None:
        if self._is_refused():
            return
        if self.path != "/":
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        body = render("demo.html", address=ADDRESS).encode()
        self._begin("text/html; charset=utf-8", **{"Content-Length": str(len(body)), "Content-Security-Policy": POLICY})
        self.wfile.write(body)

    def do_POST(self) -> None:
        if self._is_refused():
            return
        if self.path != ADDRESS:
            self.send_error(HTTPStatus.NOT_FOUND)
            return
        try:
            length = int(self.headers.get("Content-Length", 0))
            if length > LONGEST:
                raise UserError(f"dialogue: longer than {LONGEST} bytes")
            text = json.loads(self.rfile.read(length))["dialogue"]
            dialogue = self.server.summarizer.clean(text, "dialogue")
        except UserError as error:
            self._begin("application/x-ndjson")
            self._send(error=str(error))
            return
        except (ValueError, KeyError, TypeError, AttributeError):
            self.send_error(HTTPStatus.BAD_REQUEST, 'the body has to be {"dialogue": "..."}')
            return
        self._begin("application/x-ndjson")
        try:
            with self.server.turn:
                self._answer("adapter", dialogue)
                self._answer("base", dialogue)
        except (BrokenPipeError, ConnectionResetError):
            logger.info("the browser left before the answer")

    def log_message(self, format: str, *args: Any) -> None:
        """Requests are not logged."""

    def _answer(self, source: str, dialogue: str) -> None:
        """Send one model's summary as it grows, and then whole with the seconds it took."""
        summarizer = self.server.summarizer
        began = time.perf_counter()
        with summarizer.writer.model.disable_adapter() if source == "base" else nullcontext():
            text = summarizer.stream(dialogue, lambda text: self._send(**{"from": source, "text": text, "done": False}))
        seconds = round(time.perf_counter() - began, 2)
        self._send(**{"from": source, "text": text, "done": True, "seconds": seconds})

    def _is_refused(self) -> bool:
        """Refuse requests that another site's page makes, or that reach this server under another name."""
        origin = self.headers.get("Origin", "").removeprefix("http://")
        if self.headers.get("Host") in self.server.hosts and (not origin or origin in self.server.hosts):
            return False
        self.send_error(HTTPStatus.FORBIDDEN)
        return True

    def _begin(self, kind: str, **headers: str) -> None:
        self.send_response(HTTPStatus.OK)
        for name, value in {"Content-Type": kind, "Cache-Control": "no-store", **headers}.items():
            self.send_header(name, value)
        self.end_headers()

    def _send(self, **answer: Any) -> None:
        self.wfile.write((json.dumps(answer, ensure_ascii=False) + "\n").encode())
        self.wfile.flush()


def main() -> None:
    parser = argparse.ArgumentParser(description="A local page that summarizes dialogues.")
    parser.add_argument("--port", type=int, default=8000)
    port = parser.parse_args().port
    summarizer = Summarizer.load(load_params())
    try:
        server = Demo(summarizer, port)
    except OSError as error:
        raise UserError(f"--port {port}: {error.strerror}; choose another, such as --port {port + 1}") from None
    with server:
        print(f"http://{HOST}:{server.server_port}/  (stop with Ctrl+C)", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            return


if __name__ == "__main__":
    run_stage(main)
