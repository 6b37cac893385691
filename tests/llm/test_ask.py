from __future__ import annotations

import json
import logging
import socketserver
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import UserError
from stages.core.params import Llm
from stages.llm import client as chat
from stages.llm.answer_store import Answers, Message
from stages.llm.ask import ask, is_dry_run, plan
from tests.fake_openai import KEY, FakeOpenAI, Fault, Messages, completion

pytestmark = pytest.mark.usefixtures("surroundings")


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


def test_answers_come_in_the_order_of_the_questions_whichever_arrives_first(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    def answer(messages: Messages) -> str:
        time.sleep(0.3 if messages[-1]["content"] == "가" else 0)
        return shout(messages)

    server.answer = answer
    answers = Answers(path)
    assert list(ask("paraphrase", questions("가", "나", "다"), settings(), answers)) == ["답: 가", "답: 나", "답: 다"]
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


def test_request_says_nothing_of_the_machine_that_it_comes_from(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    ask("paraphrase", questions("가"), settings(), Answers(path))
    assert server.header_names == {
        "accept",
        "accept-encoding",
        "authorization",
        "connection",
        "content-length",
        "content-type",
        "host",
        "user-agent",
    }


def test_no_more_requests_at_once_than_concurrency(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.delay = lambda number: 0.05
    ask("paraphrase", questions(*"가나다라마바사아자"), settings(concurrency=3), Answers(path))
    assert (server.most_at_once, len(server.requests)) == (3, 9)


def test_retry_after_is_honoured(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.faults.append(Fault(429, headers={"Retry-After": "1.2"}))
    start = time.monotonic()
    assert list(ask("paraphrase", questions("가"), settings(), Answers(path))) == ["답: 가"]
    assert time.monotonic() - start >= 1.2  # without the header it is 0.5 s at most
    assert len(server.requests) == 2


def test_server_error_is_asked_again(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.faults += [Fault(500), Fault(503)]
    assert list(ask("paraphrase", questions("가"), settings(), Answers(path))) == ["답: 가"]
    assert len(server.requests) == 3


def test_kept_answers_need_no_key_and_no_server(
    settings: Callable[..., Llm], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with FakeOpenAI(shout) as gone:
        here = settings(base_url=gone.base_url)
        ask("paraphrase", questions("가", "나"), here, Answers(path))
    monkeypatch.delenv("UPSTAGE_API_KEY")
    assert list(ask("paraphrase", questions("나", "가"), here, Answers(path))) == ["답: 나", "답: 가"]
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
    first = list(ask("paraphrase", questions("가", "가"), settings(concurrency=1), Answers(path)))
    assert first == ["답 1", "답 2"]
    assert list(ask("paraphrase", questions("가", "가"), settings(), Answers(path))) == first
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
    assert list(ask("paraphrase", questions("가", "나"), settings(), answers)) == ["답: 가", "답: 나"]
    assert asked(server) == ["가", "나", "나"]
    assert path.read_bytes() == whole


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


def test_without_a_key_what_is_not_answered_is_left_out_and_said(
    server: FakeOpenAI,
    settings: Callable[..., Llm],
    path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    ask("paraphrase", questions("나"), settings(), Answers(path))
    monkeypatch.delenv("UPSTAGE_API_KEY")
    answers = Answers(path)
    with caplog.at_level(logging.INFO):
        found = list(ask("paraphrase", questions("가", "나", "다"), settings(without_key="skip"), answers))
    assert found == [None, "답: 나", None]
    assert asked(server) == ["나"]
    assert answers.usage().answers == 1
    assert caplog.messages[-1] == (
        "paraphrase: UPSTAGE_API_KEY is not set: 2 answers that data/answers does not hold are left out; put it in "
        ".env and run `dvc repro --force paraphrase` to ask for them"
    )


AGAIN = "; what was answered is kept, run again to go on"
NO_COMPLETION = "its answer is not a chat completion; the address of an OpenAI-compatible server mostly ends in /v1"
QUOTING = json.dumps({"error": {"message": f"bad request\nby {KEY}"}})
QUOTED = "bad request by ***"
SLOWER = "lower augment.llm.requests_per_minute or concurrency, or check your quota"


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        (Fault(401, QUOTING), f"the key in UPSTAGE_API_KEY is refused (401); check .env; the server says: {QUOTED}"),
        (Fault(403, QUOTING), f"not allowed with the key in UPSTAGE_API_KEY (403); the server says: {QUOTED}"),
        (Fault(402, QUOTING), f"wants to be paid (402); the server says: {QUOTED}{AGAIN}"),
        (
            Fault(429, QUOTING),
            f"Error code: 429 - {QUOTED}; {SLOWER}{AGAIN}",
        ),
        (Fault(400, QUOTING), f"Error code: 400 - {QUOTED}{AGAIN}"),
        (Fault(500, "oh no"), f"Error code: 500 - oh no{AGAIN}"),
        (Fault(200, "<html>", {"Content-Type": "text/html"}), NO_COMPLETION),
        (Fault(200, '{"choices": [{"mess'), NO_COMPLETION),
        (Fault(200, "{}"), NO_COMPLETION),
    ],
    ids=["401", "403", "402", "429", "400", "500", "html", "torn", "empty"],
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
    monkeypatch.setattr(chat, "FIRST_TRIES", 1)
    server.faults.append(fault)
    with pytest.raises(UserError) as error:
        ask("paraphrase", questions("가"), settings(), Answers(path))
    assert str(error.value) == f"augment.llm.base_url = {server.base_url!r}: {message}"
    assert "openai._base_client" in caplog.text
    assert KEY not in caplog.text + "".join(traceback.format_exception(error.value))


def test_unknown_model(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    with pytest.raises(UserError) as error:
        ask("paraphrase", questions("가"), settings(model="solar-9"), Answers(path))
    assert str(error.value) == (
        f"augment.llm.model = 'solar-9': not found at {server.base_url} (404); check both; "
        "the server says: The model solar-9 does not exist"
    )


def test_server_that_is_not_there(settings: Callable[..., Llm], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "FIRST_TRIES", 2)
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
    monkeypatch.setattr(chat, "FIRST_TRIES", 1)
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
    assert list(ask("paraphrase", questions("가"), settings(), Answers(path))) == [""]


def test_progress_is_shown_for_requests_only(
    settings: Callable[..., Llm], path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ask("paraphrase", questions("가", "나"), settings(), Answers(path))
    assert "paraphrase: 100%" in capsys.readouterr().err
    ask("paraphrase", questions("가", "나"), settings(), Answers(path))
    assert capsys.readouterr().err == ""


def test_server_without_a_key_gets_none(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    server.wants_key = False
    assert list(ask("paraphrase", questions("가"), settings(api_key_env=""), Answers(path))) == ["답: 가"]


def test_server_that_wants_a_key_where_none_is_named(settings: Callable[..., Llm], path: Path) -> None:
    with pytest.raises(UserError) as error:
        ask("paraphrase", questions("가"), settings(api_key_env=""), Answers(path))
    assert str(error.value).endswith(
        ": wants a key (401); name its variable in augment.llm.api_key_env; "
        "the server says: Incorrect API key provided:"
    )


def test_iterator_of_conversations(settings: Callable[..., Llm], path: Path) -> None:
    assert list(ask("paraphrase", iter(questions("가", "나")), settings(), Answers(path))) == ["답: 가", "답: 나"]


FORMAT = {
    "type": "json_schema",
    "json_schema": {
        "name": "answer",
        "strict": True,
        "schema": {
            "type": "object",
            "properties": {"dialogue": {"type": "string"}, "summary": {"type": "string"}},
            "required": ["dialogue", "summary"],
            "additionalProperties": False,
        },
    },
}
REFUSED = '{"error": {"message": "response_format is not supported"}}'


@pytest.mark.parametrize(("structured", "expected"), [("auto", FORMAT), ("json_schema", FORMAT), ("none", None)])
def test_answer_is_held_to_its_fields(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, structured: str, expected: object
) -> None:
    ask("paraphrase", questions("가"), settings(structured=structured), Answers(path), ["dialogue", "summary"])
    assert server.requests[0].get("response_format") == expected


@pytest.mark.parametrize("status", [400, 422])
def test_refused_schema_is_left_out_from_then_on(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    server.faults.append(Fault(status, REFUSED))
    with caplog.at_level(logging.INFO, logger="stages"):
        texts = list(ask("paraphrase", questions("가", "나"), settings(concurrency=1), Answers(path), ["summary"]))
    assert texts == ["답: 가", "답: 나"]
    assert ["response_format" in request for request in server.requests] == [True, False, False]
    assert caplog.messages[0].startswith("the server refuses a JSON schema, going on without: Error code: ")
    same_key = ask("paraphrase", questions("가"), settings(structured="none"), Answers(path))
    assert list(same_key) == ["답: 가"]
    assert len(server.requests) == 3


def test_refused_schema_is_an_error_where_it_is_asked_for(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.faults.append(Fault(400, REFUSED))
    with pytest.raises(UserError, match="response_format is not supported"):
        ask("paraphrase", questions("가"), settings(structured="json_schema"), Answers(path), ["summary"])
    assert len(server.requests) == 1


def test_model_that_counts_its_thoughts(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    words = "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."
    server.faults.append(Fault(400, json.dumps({"error": {"message": words}})))
    ask("paraphrase", questions("가"), settings(), Answers(path), ["summary"])
    assert [request.get("max_completion_tokens") for request in server.requests] == [None, 2048]
    assert [request.get("max_tokens") for request in server.requests] == [2048, None]
    assert "response_format" in server.requests[1]


def test_retry_after_may_be_a_date(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.faults.append(Fault(503, headers={"Retry-After": formatdate(time.time() + 3, usegmt=True)}))
    start = time.monotonic()
    assert list(ask("paraphrase", questions("가"), settings(), Answers(path))) == ["답: 가"]
    assert time.monotonic() - start >= 1.9  # dates have whole seconds


def test_retry_after_holds_back_every_request(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.faults.append(Fault(429, headers={"Retry-After": "0.5"}))
    server.delay = lambda number: 0.1 * number
    arrivals: list[float] = []
    server.answer = lambda messages: arrivals.append(time.monotonic()) or "답"  # type: ignore[func-returns-value]
    start = time.monotonic()
    ask("paraphrase", questions("가", "나", "다"), settings(concurrency=2), Answers(path))
    assert [arrival - start > 0.6 for arrival in sorted(arrivals)] == [False, True, True]


@pytest.mark.parametrize("wait", ["3600", "1e400", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_retry_after_beyond_reason_ends_the_run(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, wait: str
) -> None:
    server.faults.append(Fault(429, headers={"Retry-After": wait}))
    with pytest.raises(UserError, match="check your quota"):
        ask("paraphrase", questions("가"), settings(), Answers(path))


@pytest.mark.parametrize("wait", ["soon", "-5", "nan", "0", "Mon, 99 Foo 2020 00:00:00 GMT"])
def test_retry_after_that_says_nothing_is_passed_over(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, wait: str
) -> None:
    server.faults.append(Fault(429, headers={"Retry-After": wait}))
    assert list(ask("paraphrase", questions("가"), settings(), Answers(path))) == ["답: 가"]


def test_exhausted_quota_is_not_asked_again(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.faults.append(Fault(429, '{"error": {"message": "pay first", "code": "insufficient_quota"}}'))
    with pytest.raises(UserError, match=f"pay first; {SLOWER}"):
        ask("paraphrase", questions("가"), settings(), Answers(path))
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (Fault(200, '{"choices": [{"mess'), "not a chat completion"),
        (Fault(200, "{}" * 50, breaks="reset"), "connection lost"),
        (Fault(200, "{}" * 50, breaks="stalls"), "timeout"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_broken_reply_is_asked_for_again(
    server: FakeOpenAI,
    settings: Callable[..., Llm],
    path: Path,
    caplog: pytest.LogCaptureFixture,
    fault: Fault,
    kind: str,
) -> None:
    server.faults.append(fault)
    with caplog.at_level(logging.INFO, logger="stages"):
        assert list(ask("paraphrase", questions("가"), settings(timeout=1.0), Answers(path))) == ["답: 가"]
    assert caplog.messages == [
        f"paraphrase: 1 requests were sent again: 1 {kind}",
        "paraphrase: 1 answers, 1 of them new: 1 prompt and 1 completion tokens",
    ]


def test_port_that_speaks_no_http(settings: Callable[..., Llm], path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chat, "FIRST_TRIES", 1)

    class Chatter(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            self.request.sendall(b"220 ready\r\n\r\n")

    with socketserver.TCPServer(("127.0.0.1", 0), Chatter) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        base_url = f"http://127.0.0.1:{server.server_address[1]}/v1"
        with pytest.raises(UserError) as error:
            ask("paraphrase", questions("가"), settings(base_url=base_url), Answers(path))
        server.shutdown()
    assert str(error.value) == (
        f"augment.llm.base_url = {base_url!r}: no connection; check the address and the network{AGAIN}"
    )


def test_answer_cut_off_once_is_asked_for_again(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.faults.append(completion("답: ", "length", (5, 7)))
    assert list(ask("paraphrase", questions("가"), settings(), Answers(path))) == ["답: 가"]
    record = json.loads(path.read_text(encoding="utf-8"))
    assert (record["finish_reason"], record["prompt_tokens"], record["completion_tokens"]) == ("stop", 6, 8)


def test_answer_cut_off_twice_is_told_each_time_and_not_paid_for_again(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.faults += [completion("답", "length"), completion("답:", "length")]
    told = "paraphrase: 1 answers are cut off at augment.llm.max_tokens = 2048"
    for _ in range(2):
        caplog.clear()
        with caplog.at_level(logging.INFO, logger="stages"):
            assert list(ask("paraphrase", questions("가"), settings(), Answers(path))) == ["답:"]
        assert caplog.messages[-1] == told
    assert len(server.requests) == 2


def test_tokens_are_estimated_where_the_server_does_not_count(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.faults.append(completion("답", usage=None))
    ask("paraphrase", questions("가나다라"), settings(), Answers(path))
    record = json.loads(path.read_text(encoding="utf-8"))
    assert (record["prompt_tokens"], record["completion_tokens"]) == (5, 5)


def test_requests_per_minute(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    start = time.monotonic()
    ask("paraphrase", questions(*"가나다라마"), settings(requests_per_minute=600), Answers(path))
    assert 0.4 <= time.monotonic() - start < 2


def test_tokens_per_minute_counts_what_answers_took(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.faults.append(completion("답", usage=(30, 30)))  # 1 s of 3,600 a minute; an answer of 2 takes none
    start = time.monotonic()
    ask("paraphrase", questions("가", "나"), settings(tokens_per_minute=3600, concurrency=1), Answers(path))
    assert 0.9 <= time.monotonic() - start < 2


LIMITED = "; what was answered is kept, raise it and run again to go on"
PRICES = {"price_per_million_input": 1.0, "price_per_million_output": 2.0}


@pytest.mark.parametrize(
    ("limit", "higher", "message"),
    [
        (
            {"max_total_tokens": 100},
            {"max_total_tokens": 1000},
            "augment.llm.max_total_tokens = 100: reached by paraphrase with 2 of 5 answers, "
            "60 prompt and 40 completion tokens",
        ),
        (
            PRICES | {"max_cost": 0.0002},
            PRICES | {"max_cost": 1.0},
            "augment.llm.max_cost = 0.0002: reached by paraphrase with 3 of 5 answers, "
            "90 prompt and 60 completion tokens, cost 0.0002",
        ),
    ],
    ids=["tokens", "cost"],
)
def test_limit_stops_the_run_and_a_higher_one_goes_on(
    server: FakeOpenAI,
    settings: Callable[..., Llm],
    path: Path,
    limit: dict[str, Any],
    higher: dict[str, Any],
    message: str,
) -> None:
    words = questions(*"가나다라마")
    server.faults += [completion(f"답 {number}", usage=(30, 20)) for number in range(5)]
    for _ in range(2):  # the second run spends nothing: what was spent before counts
        with pytest.raises(UserError) as error:
            ask("paraphrase", words, settings(concurrency=1, **limit), Answers(path))
        assert str(error.value) == f"{message}{LIMITED}"
    assert len(server.requests) < 5
    answers = list(ask("paraphrase", words, settings(concurrency=1, **higher), Answers(path)))
    assert answers == [f"답 {number}" for number in range(5)]
    assert len(server.requests) == 5


def test_plan_counts_and_asks_for_nothing(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask("paraphrase", questions("가"), settings(), Answers(path))
    monkeypatch.delenv("UPSTAGE_API_KEY")
    words = questions("가", "나다라마" * 100, "바")
    assert plan("paraphrase", words, settings(), Answers(path)) == (
        "paraphrase: 3 requests, 1 answered already, 2 to be asked for: about 403 prompt and 403 completion tokens; "
        "no price is set (augment.llm.price_per_million_input and _output); nothing was asked for"
    )
    assert plan("paraphrase", words, settings(max_cost=0.0001, **PRICES), Answers(path)) == (
        "paraphrase: 3 requests, 1 answered already, 2 to be asked for: about 403 prompt and 403 completion tokens, "
        "cost 0.0012; augment.llm.max_cost = 0.0001 would stop it; nothing was asked for"
    )
    assert len(server.requests) == 1


def test_dry_run_is_read_from_the_command_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["stage"])
    assert not is_dry_run("paraphrase")
    monkeypatch.setattr("sys.argv", ["stage", "--dry-run"])
    assert is_dry_run("paraphrase")
    monkeypatch.setattr("sys.argv", ["stage", "--dryrun"])
    with pytest.raises(SystemExit):
        is_dry_run("paraphrase")
    assert "python -m stages.paraphrase: error: unrecognized arguments: --dryrun" in capsys.readouterr().err
