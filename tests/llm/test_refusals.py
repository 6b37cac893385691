"""What a server refuses: one request, one part of it, or everything; and how the user hears of it."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from stages.core.errors import UserError
from stages.core.params import Llm
from stages.llm.answer_store import Answer, Answers, Message
from stages.llm.ask import ask, plan
from tests.fake_openai import KEY, FakeOpenAI, Fault, Messages, completion

pytestmark = pytest.mark.usefixtures("surroundings")

CASES = Path(__file__).parents[1] / "data/llm_errors"
FILTERED = Fault(400, (CASES / "400_content_filter.json").read_text(encoding="utf-8"))
FILTER_WORDS = "The response was filtered due to the prompt triggering the content management policy."
OPAQUE = Fault(400, '{"error": {"message": "cannot process this"}}')
LETTERS = "가나다라마바사아자차카타파하거너더러머버"


def questions(*words: str) -> list[list[Message]]:
    return [[{"role": "system", "content": "규칙"}, {"role": "user", "content": word}] for word in words]


def unless(words: str, fault: Fault) -> Callable[[Messages], str | Fault]:
    """Answers all but some questions."""
    return lambda messages: fault if messages[-1]["content"] in words else f"답: {messages[-1]['content']}"


def said(finish_reason: str, **message: Any) -> Fault:
    return Fault(200, json.dumps({"choices": [{"message": message, "finish_reason": finish_reason}]}))


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(unless("", FILTERED)) as running:
        yield running


@pytest.fixture
def settings(settings: Callable[..., Llm]) -> Callable[..., Llm]:
    """Those of all tests, with one question at a time."""
    return partial(settings, concurrency=1)


def test_refused_row_is_kept_with_the_servers_words_and_the_others_go_on(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = unless("가", FILTERED)
    for _ in range(2):
        answers = Answers(path)
        assert list(ask("paraphrase", questions("가", "나", "다"), settings(), answers)) == ["", "답: 나", "답: 다"]
        answers.save()
        refused = next(answers.used())
        assert refused == Answer("solar-pro2", "", "content_filter", 0, 0, FILTER_WORDS)
        monkeypatch.delenv("UPSTAGE_API_KEY", raising=False)  # the second run needs no key
    assert len(server.requests) == 3
    records = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [record.get("refusal") for record in records if "refusal" in record] == [FILTER_WORDS]


def test_refused_row_is_asked_again_where_the_user_wants_it(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    server.answer = unless("가", FILTERED)
    words = questions("가", "나", "다")
    with caplog.at_level(logging.INFO, logger="stages"):
        ask("paraphrase", words, settings(), Answers(path))
    assert caplog.messages[-1] == (
        "paraphrase: 1 requests are refused; augment.llm.ask_refused_again: true asks them again"
    )
    again = settings(ask_refused_again=True)
    assert " 2 answered already, 1 to be asked for" in plan("paraphrase", words, again, Answers(path))
    assert list(ask("paraphrase", words, again, Answers(path))) == ["", "답: 나", "답: 다"]
    server.answer = unless("", FILTERED)
    answers = Answers(path)
    assert list(ask("paraphrase", words, again, answers)) == ["답: 가", "답: 나", "답: 다"]
    answers.save()
    assert list(ask("paraphrase", words, settings(), Answers(path))) == ["답: 가", "답: 나", "답: 다"]
    assert len(server.requests) == 3 + 1 + 1
    assert "refusal" not in path.read_text(encoding="utf-8")


def test_refusals_stay_where_no_key_is_there_to_ask_again(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.answer = unless("가", FILTERED)
    ask("paraphrase", questions("가", "나", "다"), settings(), Answers(path))
    kept = path.read_bytes()
    monkeypatch.delenv("UPSTAGE_API_KEY")
    answers = Answers(path)
    again = settings(ask_refused_again=True, without_key="skip")
    assert list(ask("paraphrase", questions("가", "나", "다"), again, answers)) == ["", "답: 나", "답: 다"]
    answers.save()
    assert sorted(path.read_bytes().splitlines()) == sorted(kept.splitlines())


@pytest.mark.parametrize(("asked", "sent"), [("가나다", 3), (LETTERS, 8)])
def test_server_that_refuses_most_stops_the_run_which_can_go_on_later(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, asked: str, sent: int
) -> None:
    server.answer = unless(LETTERS[1:], FILTERED)
    with pytest.raises(UserError) as error:
        ask("paraphrase", questions(*asked), settings(), Answers(path))
    assert str(error.value) == (
        f"augment.llm.base_url = {server.base_url!r}: {sent - 1} of the latest {sent} requests are refused, "
        f"the last one with: {FILTER_WORDS}; see to the cause and run again, what was answered is kept"
    )
    assert len(server.requests) == sent
    server.answer = unless("", FILTERED)
    assert list(ask("paraphrase", questions(*asked), settings(), Answers(path))) == [f"답: {word}" for word in asked]
    assert len(server.requests) == sent + len(asked) - 1


def test_server_that_starts_to_refuse_midway_stops_the_run(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    words = [str(number) for number in range(40)]
    server.answer = lambda messages: OPAQUE if int(messages[-1]["content"]) >= 16 else "답"
    with pytest.raises(UserError, match="9 of the latest 16 requests are refused, the last one with: cannot process"):
        ask("paraphrase", questions(*words), settings(), Answers(path))
    assert len(server.requests) == 25


def test_refusal_that_names_nothing_is_the_rows_once_others_are_answered(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.answer = unless("다", OPAQUE)
    assert list(ask("paraphrase", questions("가", "나", "다"), settings(), Answers(path))) == ["답: 가", "답: 나", ""]


def test_refusal_that_names_nothing_stops_only_once(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    """Of the first request it is the server's; in the next run others are answered already."""
    server.answer = unless("가", OPAQUE)
    server.delay = lambda number: {1: 0.2}.get(number, 0.0)
    with pytest.raises(UserError, match="Error code: 400 - cannot process this; "):
        ask("paraphrase", questions("가"), settings(), Answers(path))
    ask("paraphrase", questions("나", "다"), settings(), Answers(path))
    assert list(ask("paraphrase", questions("가", "나", "다"), settings(), Answers(path))) == ["", "답: 나", "답: 다"]


def test_spent_credit_is_no_refusal_of_a_row(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.answer = unless("나", Fault(400, '{"error": {"message": "Your credit balance is too low"}}'))
    with pytest.raises(UserError, match="Your credit balance is too low"):
        ask("paraphrase", questions("가", "나", "다"), settings(), Answers(path))
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("body", "without", "told"),
    [
        ((CASES / "400_temperature.json").read_text(encoding="utf-8"), {"temperature"},
         "temperature, going on without"),
        ('{"detail": [{"loc": ["body", "response_format"], "msg": "no"}]}', {"response_format"},
         "a JSON schema, going on without"),
        ('{"object": "error", "message": "max_tokens is not supported", "code": 400}', {"max_tokens"},
         "max_tokens, going on with max_completion_tokens"),
        ('{"error": "System role not supported"}', set(),
         "a system message, going on with its text in the first question"),
    ],
)  # fmt: skip
def test_just_what_is_refused_is_left_out_for_the_run_and_said_once(
    server: FakeOpenAI,
    settings: Callable[..., Llm],
    path: Path,
    caplog: pytest.LogCaptureFixture,
    body: str,
    without: set[str],
    told: str,
) -> None:
    server.faults.append(Fault(400, body))
    with caplog.at_level(logging.INFO, logger="stages"):
        ask("paraphrase", questions("가", "나", "다"), settings(), Answers(path), ["summary"])
    first, *others = server.requests
    assert len(others) == 3
    added = {"max_completion_tokens"} if without == {"max_tokens"} else set()
    assert [set(request) for request in others] == [set(first) - without | added] * 3
    assert sum(f"the server refuses {told}: Error code: 400 - " in message for message in caplog.messages) == 1
    roles = [message["role"] for message in others[0]["messages"]]
    assert roles == (["system", "user"] if without else ["user"])


def test_every_refused_part_is_left_out(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    parts = ["temperature", "max_tokens", "max_completion_tokens", "response_format", "system role"]
    server.faults += [Fault(422, json.dumps({"detail": f"{part}: not supported"})) for part in parts]
    ask("paraphrase", questions("가"), settings(), Answers(path), ["summary"])
    assert server.requests[-1] == {"model": "solar-pro2", "messages": [{"role": "user", "content": "규칙\n\n가"}]}


def test_what_stays_refused_is_the_servers_to_explain(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.answer = unless("가", Fault(400, '{"error": {"message": "temperature is not supported"}}'))
    with pytest.raises(UserError, match="Error code: 400 - temperature is not supported"):
        ask("paraphrase", questions("가"), settings(), Answers(path))
    assert len(server.requests) == 2


def test_unnamed_refusal_is_not_blamed_on_the_schema(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.faults.append(OPAQUE)
    with pytest.raises(UserError) as error:
        ask("paraphrase", questions("가"), settings(), Answers(path), ["summary"])
    assert "cannot process this; if it knows no JSON schema, set augment.llm.structured: none" in str(error.value)
    assert len(server.requests) == 1


def test_region_that_is_not_served_is_told(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.faults.append(Fault(403, (CASES / "403_region.json").read_text(encoding="utf-8")))
    with pytest.raises(UserError, match=r"\(403\); the server says: Country, region, or territory not supported$"):
        ask("paraphrase", questions("가"), settings(), Answers(path))
    assert len(server.requests) == 1


def test_busy_server_that_says_so_in_a_good_reply_is_waited_for(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    body = (CASES / "200_rate_limit.json").read_text(encoding="utf-8")
    server.faults.append(Fault(200, body, {"Retry-After": "0.1"}))
    with caplog.at_level(logging.INFO, logger="stages"):
        assert list(ask("paraphrase", questions("가"), settings(), Answers(path))) == ["답: 가"]
    assert "paraphrase: 1 requests were sent again: 1 429" in caplog.messages
    server.faults.append(Fault(200, body, {"Retry-After": "999"}))
    with pytest.raises(UserError, match="Error code: 429 - Rate limit exceeded: free-models-per-day; lower"):
        ask("paraphrase", questions("나"), settings(), Answers(path))


@pytest.mark.parametrize("code", [402, 403, "insufficient_quota", "invalid_api_key"])
def test_error_in_a_good_reply_that_no_wait_mends_stops_at_once(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, code: int | str
) -> None:
    error = {"message": f"no more for {KEY}", "code": code}
    server.faults.append(Fault(200, json.dumps({"choices": None, "error": error})))
    with pytest.raises(UserError, match=r"no more for \*\*\*"):
        ask("paraphrase", questions("가"), settings(), Answers(path))
    assert len(server.requests) == 1


def test_error_in_a_choice_is_one(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    choice = {"message": {"content": ""}, "finish_reason": "error", "error": {"code": 402, "message": "pay first"}}
    server.faults.append(Fault(200, json.dumps({"choices": [choice]})))
    with pytest.raises(UserError, match="pay first"):
        ask("paraphrase", questions("가"), settings(), Answers(path))


@pytest.mark.parametrize("choices", ["[]", "[{}]", "[null]", '[{"index": 0, "message": null}]', "null"])
def test_answer_with_nothing_in_it_is_asked_for_once_more(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, choices: str
) -> None:
    nothing = Fault(200, f'{{"choices": {choices}, "promptFeedback": {{"blockReason": "SAFETY"}}}}')
    server.faults += [nothing, nothing, nothing]
    answers = Answers(path)
    assert list(ask("paraphrase", questions("가", "나"), settings(), answers)) == ["", "답: 나"]
    assert len(server.requests) == 4
    assert "blockReason" in next(answers.used()).refusal  # type: ignore[union-attr]


def test_row_that_the_law_forbids_is_refused_and_the_others_go_on(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.answer = unless("가", Fault(451, ""))
    answers = Answers(path)
    assert list(ask("paraphrase", questions("가", "나", "다"), settings(), answers)) == ["", "답: 나", "답: 다"]
    assert next(answers.used()) == Answer("solar-pro2", "", "content_filter", 0, 0, "Error code: 451")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "답: "}, {"type": "text", "text": "가"}], "답: 가"),
        ([{"type": "thinking", "thinking": [{"type": "text", "text": "음"}]}, {"type": "text", "text": "가"}], "가"),
        (["답", {"type": "reasoning", "text": "음"}, "가"], "답가"),
        ([{"type": "reasoning_text", "text": "음"}, {"type": "output_text", "text": "가"}, None, 5], "가"),
        (
            [{"type": "text", "text": "가"}, {"type": "citation", "text": "나"}, {"type": "x", "x": {"text": "다"}}],
            "가",
        ),
        ([{"type": "text", "text": {"value": "가", "annotations": []}}], "가"),
        ([{"text": "음", "thought": True}, {"text": "가"}], "가"),
    ],
)
def test_parts_of_an_answer_are_joined(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, content: list[Any], text: str
) -> None:
    server.faults.append(said("stop", content=content))
    assert list(ask("paraphrase", questions("가"), settings(), Answers(path))) == [text]


@pytest.mark.parametrize(
    ("reply", "reason", "words"),
    [
        (said("stop", content=None, refusal="못 합니다"), "refusal", "못 합니다"),
        (said("stop", content=[{"type": "refusal", "refusal": "못 합니다"}]), "refusal", "못 합니다"),
        (said("content_filter", content="반쯤"), "content_filter", "반쯤"),
        (said("SAFETY", content=None), "content_filter", ""),
        (said("tool_calls", content=None, tool_calls=[{"function": {"name": "검색"}}]), "tool_calls",
         '[{"function": {"name": "검색"}}]'),
        (said("stop", content=None), "stop", ""),
        (said("stop", content=None, refusal={"reason": "정책"}), "refusal", '{"reason": "정책"}'),
        (said("stop", content=None, refusal=["싫", "어요"]), "refusal", '["싫", "어요"]'),
        (said("function_call", content=None, function_call={"name": "검색"}), "tool_calls", '{"name": "검색"}'),
        (Fault(200, '{"choices": [{"index": 0, "finish_reason": "content_filter: PROHIBITED_CONTENT"}]}'),
         "content_filter", ""),
    ],
)  # fmt: skip
def test_refusal_of_the_model_is_kept_with_its_reason(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, reply: Fault, reason: str, words: str
) -> None:
    server.faults.append(reply)
    for _ in range(2):
        answers = Answers(path)
        ask("paraphrase", questions("가"), settings(), answers)
        [answer] = answers.used()
        assert answer is not None
        assert (answer.refused, answer.finish_reason, answer.refusal) == (True, reason, words)
    assert len(server.requests) == 1
    answers = Answers(path)
    assert list(ask("paraphrase", questions("가"), settings(ask_refused_again=True), answers)) == ["답: 가"]


@pytest.mark.parametrize(
    ("spoilt", "words"),
    [
        (said("error", content="반쯤"), "an answer that ends with finish_reason 'error'"),
        (Fault(400, '{"error": {"message": "Failed to generate JSON.", "code": "json_validate_failed"}}'),
         "Failed to generate JSON."),
    ],
)  # fmt: skip
def test_answer_that_the_server_spoils_is_asked_for_once_more(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path, spoilt: Fault, words: str
) -> None:
    server.faults += [spoilt, completion("답: 가"), spoilt, spoilt]
    answers = Answers(path)
    assert list(ask("paraphrase", questions("가", "나", "다"), settings(), answers)) == ["답: 가", "", "답: 다"]
    assert [answer.refusal for answer in answers.used() if answer and answer.refused] == [words]
    assert len(server.requests) == 5


def test_answer_with_a_call_beside_it_is_one(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    server.faults.append(said("tool_calls", content="답", tool_calls=[{}]))
    answers = Answers(path)
    ask("paraphrase", questions("가"), settings(), answers)
    assert [answer.refused for answer in answers.used() if answer] == [False]


def test_model_that_refuses_everything_stops_the_run(
    server: FakeOpenAI, settings: Callable[..., Llm], path: Path
) -> None:
    server.answer = unless(LETTERS, completion("", "content_filter"))
    with pytest.raises(UserError, match="8 of the latest 8 requests are refused, the last one with: content_filter"):
        ask("paraphrase", questions(*LETTERS), settings(), Answers(path))


def test_key_goes_nowhere_else(server: FakeOpenAI, settings: Callable[..., Llm], path: Path) -> None:
    with FakeOpenAI() as elsewhere:
        server.faults.append(Fault(307, "", {"Location": f"{elsewhere.base_url}/chat/completions"}))
        with pytest.raises(UserError):
            ask("paraphrase", questions("가"), settings(), Answers(path))
        assert "authorization" not in elsewhere.header_names
