from __future__ import annotations

import json
import logging
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.common import llm
from stages.common.answers import Answers, Message, Request
from stages.common.errors import UserError
from stages.common.llm import ask, read_key
from stages.common.params import Llm
from tests.fake_openai import KEY, FakeOpenAI, Fault, Messages


def shout(messages: Messages) -> str:
    return f"답: {messages[-1]['content']}"


def questions(*words: str) -> list[list[Message]]:
    return [[{"role": "user", "content": word}] for word in words]


def asked(server: FakeOpenAI) -> list[str]:
    return [request["messages"][-1]["content"] for request in server.requests]


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(shout) as running:
        yield running


@pytest.fixture
def settings(server: FakeOpenAI) -> Callable[..., Llm]:
    """`augment.llm` with the fake server's address; keywords change it."""

    def make(**changes: Any) -> Llm:
        values: dict[str, Any] = {
            "base_url": server.base_url,
            "model": "solar-pro2",
            "api_key_env": "UPSTAGE_API_KEY",
            "temperature": 0.7,
            "max_tokens": 2048,
            "concurrency": 8,
            "timeout": 20.0,
        }
        return Llm(**(values | changes))

    return make


@pytest.fixture(autouse=True)
def surroundings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty working folder, no DVC, and the key in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("DVC_ROOT", raising=False)
    monkeypatch.setenv("UPSTAGE_API_KEY", KEY)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data/answers/test.jsonl"


def test_answers_come_in_the_order_of_the_questions_whichever_arrives_first(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    def answer(messages: Messages) -> str:
        time.sleep(0.3 if messages[-1]["content"] == "가" else 0)
        return shout(messages)

    server.answer = answer
    answers = Answers(path)
    assert ask("paraphrase", questions("가", "나", "다"), settings(), answers) == [
        "답: 가",
        "답: 나",
        "답: 다",
    ]
    first = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert first["answer"] != "답: 가"


def test_request_carries_the_parameters(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    ask("paraphrase", questions("가"), settings(temperature=0.2, max_tokens=99), Answers(path))
    assert server.requests == [
        {
            "model": "solar-pro2",
            "messages": [{"role": "user", "content": "가"}],
            "temperature": 0.2,
            "max_tokens": 99,
        }
    ]


def test_no_more_requests_at_once_than_concurrency(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.delay = lambda number: 0.05
    ask("paraphrase", questions(*"가나다라마바사아자"), settings(concurrency=3), Answers(path))
    assert (server.most_at_once, len(server.requests)) == (3, 9)


def test_retry_after_is_honoured(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.faults.append(Fault(429, headers={"Retry-After": "1.2"}))
    start = time.monotonic()
    assert ask("paraphrase", questions("가"), settings(), Answers(path)) == ["답: 가"]
    assert time.monotonic() - start >= 1.2  # without the header it is 0.5 s at most
    assert len(server.requests) == 2


def test_server_error_is_asked_again(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.faults += [Fault(500), Fault(503)]
    assert ask("paraphrase", questions("가"), settings(), Answers(path)) == ["답: 가"]
    assert len(server.requests) == 3


def test_kept_answers_need_no_key_and_no_server(
    settings: Callable[..., Llm], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOpenAI(shout) as gone:
        here = settings(base_url=gone.base_url)
        ask("paraphrase", questions("가", "나"), here, Answers(path))
    monkeypatch.delenv("UPSTAGE_API_KEY")
    assert ask("paraphrase", questions("나", "가"), here, Answers(path)) == ["답: 나", "답: 가"]
    assert len(gone.requests) == 2


@pytest.mark.parametrize(
    "changes",
    [{"model": "other"}, {"temperature": 0.8}, {"max_tokens": 7}],
    ids=lambda changes: next(iter(changes)),
)
def test_what_shapes_an_answer_is_part_of_its_key(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, changes: dict[str, Any]
) -> None:
    ask("paraphrase", questions("가"), settings(), Answers(path))
    server.model = changes.get("model", server.model)
    ask("paraphrase", questions("가"), settings(**changes), Answers(path))
    assert len(server.requests) == 2


def test_address_and_pace_are_not_part_of_the_key(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    ask("paraphrase", questions("가"), settings(), Answers(path))
    ask("paraphrase", questions("가"), settings(base_url="http://elsewhere", concurrency=1), Answers(path))
    assert len(server.requests) == 1


def test_question_that_occurs_twice_gets_two_samples(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.answer = lambda messages: f"답 {len(server.requests)}"
    first = ask("paraphrase", questions("가", "가"), settings(concurrency=1), Answers(path))
    assert first == ["답 1", "답 2"]
    assert ask("paraphrase", questions("가", "가"), settings(), Answers(path)) == first
    assert len(server.requests) == 2


def test_torn_last_line_is_cut_off_and_asked_again(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    ask("paraphrase", questions("가", "나"), settings(concurrency=1), Answers(path))
    whole = path.read_bytes()
    path.write_bytes(whole[:-20])  # in the middle of a Hangul character or not, both are no JSON
    with caplog.at_level(logging.INFO):
        answers = Answers(path)
    torn = len(whole.splitlines()[1]) - 19
    assert caplog.messages == [f"{path}: cut off a torn last line of {torn} bytes"]
    assert path.read_bytes() == whole.splitlines(keepends=True)[0]
    assert ask("paraphrase", questions("가", "나"), settings(), answers) == ["답: 가", "답: 나"]
    assert asked(server) == ["가", "나", "나"]
    assert path.read_bytes() == whole


@pytest.mark.parametrize("line", ["<<<<<<< HEAD", '{"key": "a"}', "[]", '{"key": "a", "model": "b", "answer": 1}'])
def test_line_that_is_no_record_is_named(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text('{"key": "a", "model": "b", "answer": "c"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        Answers(path)
    assert str(error.value) == f"{path}, line 2: not an answer record; remove the line, or restore the file from Git"


def test_saved_file_is_the_same_in_whatever_order_answers_came(tmp_path: Path) -> None:
    requests = [Request("m", [{"role": "user", "content": word}], 0.7, 9) for word in "가나다라"]
    files = []
    for name, order in (("one", requests), ("two", requests[::-1])):
        answers = Answers(tmp_path / name)
        for request in order:
            answers.add(request, "줄\n둘\u2028셋 " + request.messages[0]["content"])
        answers.save()
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert [json.loads(line)["key"] for line in files[0].splitlines()] == sorted(r.key for r in requests)
    assert Answers(tmp_path / "one")[requests[2]] == "줄\n둘\u2028셋 다"


def test_saving_nothing_leaves_an_empty_file(path: Path) -> None:
    Answers(path).save()
    assert path.read_bytes() == b""


def test_key_is_looked_for_in_the_environment_then_dvc_root_then_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (root / ".env").write_text("UPSTAGE_API_KEY=from-root\n", encoding="utf-8")
    Path(".env").write_text('UPSTAGE_API_KEY="from-here$HOME"\n', encoding="utf-8-sig")
    assert read_key("UPSTAGE_API_KEY") == KEY
    monkeypatch.setenv("UPSTAGE_API_KEY", "")
    assert read_key("UPSTAGE_API_KEY") == "from-here$HOME"
    monkeypatch.setenv("DVC_ROOT", str(root))
    assert read_key("UPSTAGE_API_KEY") == "from-root"
    assert read_key("OTHER_KEY") is None


@pytest.mark.parametrize("key", ["여기에 키", "two words", "line\nbreak"])
def test_key_that_cannot_be_sent_is_refused_unquoted(key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTAGE_API_KEY", key)
    with pytest.raises(UserError) as error:
        read_key("UPSTAGE_API_KEY")
    assert str(error.value) == (
        "UPSTAGE_API_KEY: holds a space or a character that no API key has; check .env and the environment"
    )


def test_dotenv_that_is_not_utf8(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("UPSTAGE_API_KEY")
    Path(".env").write_bytes("# 열쇠\nUPSTAGE_API_KEY=k\n".encode("cp949"))
    with pytest.raises(UserError) as error:
        read_key("UPSTAGE_API_KEY")
    assert str(error.value) == ".env: not UTF-8; save it as UTF-8"


def test_missing_key(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("UPSTAGE_API_KEY")
    with pytest.raises(UserError) as error:
        ask("synthesize", questions("가", "나"), settings(), Answers(path))
    assert str(error.value) == (
        "UPSTAGE_API_KEY is not set and 2 answers are to be asked for; "
        "put it in .env (see .env.example), or set augment.synthesize.n: 0"
    )
    assert server.requests == []


AGAIN = "; what was answered is kept, run again to go on"
NO_COMPLETION = "its answer is not a chat completion; the address of an OpenAI-compatible server mostly ends in /v1"
QUOTING = json.dumps({"error": {"message": f"bad request\nby {KEY}"}})
QUOTED = "bad request by ***"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(401, QUOTING), "the key in UPSTAGE_API_KEY is refused (401); check .env"),
        (Fault(403, QUOTING), "the key in UPSTAGE_API_KEY is refused (403); check .env"),
        (
            Fault(429, QUOTING),
            f"Error code: 429 - {QUOTED}; lower augment.llm.concurrency, or check your quota{AGAIN}",
        ),
        (Fault(400, QUOTING), f"Error code: 400 - {QUOTED}{AGAIN}"),
        (Fault(500, "oh no"), f"Error code: 500{AGAIN}"),
        (Fault(200, "<html>", {"Content-Type": "text/html"}), NO_COMPLETION),
        (Fault(200, '{"choices": [{"mess'), NO_COMPLETION),
        (Fault(200, '{"choices": []}'), NO_COMPLETION),
    ],
    ids=["401", "403", "429", "400", "500", "html", "torn", "empty"],
)
def test_refusal_is_one_line_without_the_key(
    server: FakeOpenAI,
    settings: Callable[..., Llm],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
    message: str,
) -> None:
    # The client's own log too, which a stage that ran in this process before has quietened.
    caplog.set_level(logging.DEBUG)
    caplog.set_level(logging.DEBUG, logger="openai")
    monkeypatch.setattr(llm, "MAX_RETRIES", 0)
    server.faults.append(fault)
    with pytest.raises(UserError) as error:
        ask("paraphrase", questions("가"), settings(), Answers(path))
    assert str(error.value) == f"augment.llm.base_url = {server.base_url!r}: {message}"
    assert "openai._base_client" in caplog.text
    assert KEY not in caplog.text + "".join(traceback.format_exception(error.value))


def test_unknown_model(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    with pytest.raises(UserError) as error:
        ask("paraphrase", questions("가"), settings(model="solar-9"), Answers(path))
    assert str(error.value) == f"augment.llm.model = 'solar-9': not found at {server.base_url} (404); check both"


def test_server_that_is_not_there(settings: Callable[..., Llm], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(llm, "MAX_RETRIES", 1)
    with FakeOpenAI() as gone:
        pass
    with pytest.raises(UserError) as error:
        ask("paraphrase", questions("가"), settings(base_url=gone.base_url), Answers(path))
    assert str(error.value) == (
        f"augment.llm.base_url = {gone.base_url!r}: no connection; check the address and the network{AGAIN}"
    )


def test_server_that_is_too_slow(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(llm, "MAX_RETRIES", 0)
    server.delay = lambda number: 0.5
    with pytest.raises(UserError) as error:
        ask("paraphrase", questions("가"), settings(timeout=0.1), Answers(path))
    assert str(error.value) == (
        f"augment.llm.base_url = {server.base_url!r}: no answer within augment.llm.timeout = 0.1 s{AGAIN}"
    )


def test_failure_sends_nothing_new_and_keeps_what_is_under_way(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.faults.append(Fault(400))
    server.delay = lambda number: {1: 0.1, 2: 0.3}.get(number, 0.0)
    words = ["가", "나", "다", "라"]
    with pytest.raises(UserError):
        ask("paraphrase", questions(*words), settings(concurrency=2), Answers(path))
    assert len(server.requests) == 2
    ask("paraphrase", questions(*words), settings(), Answers(path))
    assert len(server.requests) == 2 + 3


def test_empty_answer_is_an_answer(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.faults.append(Fault(200, '{"choices": [{"message": {"content": null}}]}'))
    assert ask("paraphrase", questions("가"), settings(), Answers(path)) == [""]


def test_progress_is_shown_for_requests_only(
    settings: Callable[..., Llm], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask("paraphrase", questions("가", "나"), settings(), Answers(path))
    assert "paraphrase: 100%" in capsys.readouterr().err
    ask("paraphrase", questions("가", "나"), settings(), Answers(path))
    assert capsys.readouterr().err == ""
