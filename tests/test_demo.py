from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import asdict
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any

import pytest

from stages import demo, train
from stages.core import paths
from stages.core.files import write_json
from stages.core.params import load_params
from stages.engines.settings import DecodingSettings
from stages.models.load import load_for_generation
from stages.serving.summarize import summarize
from stages.serving.summarizer import Summarizer
from tests.parsed_page import Page
from tests.tiny_project import ROOT, configure

DIALOGUE = "#Person1#: 내일 만날까요?\n#Person2#: 네, 좋아요."
SETTINGS = DecodingSettings(max_new_tokens=24)


def train_once() -> None:
    configure(
        quantization={"load_in_4bit": False, "compute_dtype": "float32"},
        train={"epochs": 1, "preview_samples": 0, "learning_rate": 0.05},
        clean={"rules": str(ROOT / "data/rules/denoise.csv")},
        decoding={"min_hangul": 0.0},
    )
    train.main()
    write_json(paths.DECODING, {"chosen": asdict(SETTINGS)})


@pytest.fixture
def server(project_after: Callable[..., Path]) -> Iterator[demo.Demo]:
    project_after(train_once)
    with demo.Demo(Summarizer.load(load_params()), 0) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def ask(server: demo.Demo, method: str, path: str, body: str | None = None, **headers: str) -> HTTPResponse:
    connection = HTTPConnection(demo.HOST, server.server_port, timeout=20)
    connection.request(method, path, body, headers)
    return connection.getresponse()


def answers(response: HTTPResponse) -> list[dict[str, Any]]:
    return [json.loads(line) for line in response.read().splitlines()]


def test_the_page_and_its_answers(server: demo.Demo) -> None:
    page = ask(server, "GET", "/")
    text = page.read().decode()
    assert page.status == 200
    assert "default-src 'none'" in (page.headers["Content-Security-Policy"] or "")
    assert "http://" not in text
    assert "https://" not in text
    parsed = Page(text)
    assert parsed.open == []
    icon, address = parsed.addresses
    assert icon == "data:,"
    assert address == "/summarize"
    assert "fetch(form.action, " in text

    found = answers(ask(server, "POST", address, json.dumps({"dialogue": DIALOGUE})))
    by_source = {source: [each for each in found if each["from"] == source] for source in ("adapter", "base")}
    base = load_for_generation(paths.MANIFEST, None, load_params().quantization)
    builder = server.summarizer.writer.builder
    expected = {
        "adapter": server.summarizer.all([DIALOGUE])[0],
        "base": summarize(base, builder, [DIALOGUE], SETTINGS, batch_size=1, label="test")[0],
    }
    assert expected["adapter"] != expected["base"]
    for source, each in by_source.items():
        assert [answer["done"] for answer in each] == [False] * (len(each) - 1) + [True]
        assert each[-1]["text"] == expected[source]
        assert each[-1]["seconds"] >= 0
        growing = [answer["text"] for answer in each[:-1]]
        assert growing == sorted(growing, key=len)
    assert any(len(each) > 1 for each in by_source.values())


def test_what_is_not_answered(server: demo.Demo) -> None:
    assert server.server_address[0] == "127.0.0.1"
    assert ask(server, "GET", "/etc/passwd").status == 404
    assert ask(server, "POST", "/").status == 404
    for body in ("", "[]", '{"dialogue": 3}', "{"):
        assert ask(server, "POST", "/summarize", body).status == 400
    assert "no turn" in answers(ask(server, "POST", "/summarize", json.dumps({"dialogue": "안녕"})))[0]["error"]
    # A page of another site, or a name that leads here from elsewhere.
    assert ask(server, "POST", "/summarize", "{}", Origin="http://example.com").status == 403
    assert ask(server, "GET", "/", Host="example.com").status == 403
