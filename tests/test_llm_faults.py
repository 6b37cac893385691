"""12,457 rows in small: a server that fails three times in ten, and a run that is killed five times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.fake_openai import KEY, ROOT, Fault
from tests.unreliable_openai import FAULTS, Questions, UnreliableOpenAI, text_for

CONCURRENCY = 64
KILLS = 5


def start(server: UnreliableOpenAI, path: Path, count: int, **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "tests.unreliable_openai", server.base_url, str(path), str(count), str(CONCURRENCY)],
        cwd=ROOT,
        env={**os.environ, "UPSTAGE_API_KEY": KEY, "NO_PROXY": "127.0.0.1", **environment},
        stderr=subprocess.PIPE,
        text=True,
    )


def kept(path: Path) -> dict[str, str]:
    """The answers of the file, a torn last line left out, by their question."""
    texts = [json.loads(line)["answer"] for line in path.read_bytes().split(b"\n")[:-1]]
    return {text.partition(": ")[2].removesuffix("에 답합니다."): text for text in texts}


def run_with_kills(server: UnreliableOpenAI, path: Path, count: int) -> list[tuple[int, set[str]]]:
    """Ask `count` questions, killed KILLS times on the way; return what the server had been asked, how often, and the
    questions already answered, at each kill.
    """
    kills = []
    for kill in range(1, KILLS + 1):
        process = start(server, path, count)
        while len(server.answered) < count * kill / (KILLS + 1):
            assert process.poll() is None
            time.sleep(0.02)
        process.kill()
        process.communicate()
        kills.append((len(server.requests), set(kept(path))))
    process = start(server, path, count)
    _, errors = process.communicate()
    assert process.returncode == 0, errors
    return kills


@pytest.mark.slow
def test_faults_and_kills_lose_no_answer_and_ask_nothing_twice(tmp_path: Path) -> None:
    count = 1500
    with UnreliableOpenAI(share=0.3) as server:
        kills = run_with_kills(server, tmp_path / "answers.jsonl", count)

    questions = [messages[-1]["content"] for messages in Questions(count)]
    assert kept(tmp_path / "answers.jsonl") == {question: text_for(question) for question in questions}
    for requests, before in kills:
        assert before, "the kill came before the first answer"
        later = {request["messages"][-1]["content"] for request in server.requests[requests:]}
        assert later & before == set()
    assert set(server.injected) == {*FAULTS, "cut off"}
    assert 0.25 < server.injected.total() / len(server.requests) < 0.35
    again = server.answered.total() - count
    assert 0 <= again <= KILLS * CONCURRENCY
    assert len(server.requests) == count + server.injected.total() + again


@pytest.mark.slow
def test_key_is_written_nowhere(tmp_path: Path) -> None:
    """Not on the command line, in the log with everything told, in a file, nor where the server quotes it."""
    quoting = f'{{"error": {{"message": "Incorrect API key provided: {KEY}"}}}}'
    with UnreliableOpenAI(share=0.3) as server:
        server.faults += [Fault(429, quoting), Fault(500, quoting)]
        process = start(server, tmp_path / "answers.jsonl", 40, OPENAI_LOG="debug", PYTHONASYNCIODEBUG="1")
        while not server.requests:
            time.sleep(0.01)
        assert KEY.encode() not in Path(f"/proc/{process.pid}/cmdline").read_bytes()
        _, told = process.communicate()
        assert process.returncode == 0, told
        server.faults.append(Fault(401, quoting))
        process = start(server, tmp_path / "others.jsonl", 1, OPENAI_LOG="debug", PYTHONASYNCIODEBUG="1")
        _, refused = process.communicate()
    assert "error: augment.llm.base_url" in refused
    assert KEY not in told + refused
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert tmp_path / "answers.jsonl" in written
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
