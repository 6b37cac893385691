"""Errors as servers write them: what is read of each, and what it is about."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.llm.server_errors import read_error

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["error", "message", "detail", "code", "loc", "status", "raw"]), inner, max_size=4
        )
    ),
    max_leaves=9,
)


def openai(message: str, code: Any = None, param: str | None = None) -> str:
    return json.dumps({"error": {"message": message, "type": "invalid_request_error", "param": param, "code": code}})


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (openai("no"), "no"),
        ('{"object": "error", "message": "no", "type": "BadRequestError", "param": null, "code": 400}', "no"),
        ('{"error": "no"}', "no"),
        ('{"detail": "no"}', "no"),
        ('{"detail": [{"loc": ["body", "temperature"], "msg": "no"}]}', "temperature: no"),
        ('{"object": "error", "message": {"detail": [{"loc": ["body", "n"], "msg": "no"}]}}', "n: no"),
        ('[{"error": {"code": 400, "message": "no", "status": "INVALID_ARGUMENT"}}]', "no"),
        ('{"statusCode": 401, "message": "no"}', "no"),
        ('{"success": false, "errors": [{"code": 7003, "message": "no"}]}', "no"),
        ('{"status": {"code": "40003", "message": "no"}, "result": null}', "no"),
        ('{"error": {"message": "Provider error", "metadata": {"raw": "{\\"error\\": {\\"message\\": \\"no\\"}}"}}}',
         "Provider error: no"),
        ('{"error": {"message": "flagged", "metadata": {"reasons": ["violence", "hate"]}}}', "flagged: violence, hate"),
        ("<html><head><title>502 Bad\nGateway</title><style>p {}</style></head><p>a &amp; b</p></html>",
         "502 Bad Gateway a & b"),
        ('{"error_code": 336003, "error_msg": "no"}', "no"),
        ('{"errorCode": "E1", "errorMessage": "no"}', "no"),
        ("upstream is\n gone", "upstream is gone"),
        ('{"error": {"message": "lone \\ud800"}}', "lone ?"),
        ("[{'loc': ('body', 'n'), 'msg': 'no'}]", "[{'loc': ('body', 'n'), 'msg': 'no'}]"),
        ("", ""),
    ],
)  # fmt: skip
def test_words_are_found_in_any_shape(body: str, words: str) -> None:
    assert read_error(body, 400).words == words


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"error": {"message": "m", "code": 429}}', 429),
        ('{"error": {"message": "m", "code": "402"}}', 402),
        ('{"error": {"message": "m", "code": "rate_limit_exceeded"}}', 429),
        ('{"error": {"message": "m", "code": "insufficient_quota"}}', 402),
        ('{"error": {"message": "m", "code": "invalid_api_key", "type": "invalid_request_error"}}', 401),
        ('{"error": {"message": "m", "code": "unsupported_country_region_territory"}}', 403),
        ('{"error": {"message": "m", "type": "invalid_request_error", "code": null}}', 400),
        ('{"error": {"message": "m", "code": 502}}', 502),
        ('{"error": {"message": "Rate limit exceeded"}}', 429),
        ('{"error": {"message": "upstream"}}', 500),
        ('{"error": {"message": "m", "code": 429.0}}', 429),
        ('{"error": {"message": "m", "code": "ERR_429"}}', 429),
        ('{"error": {"message": "m", "status_code": 429}}', 429),
        ('{"error": {"message": "m", "http_status": 402}}', 402),
        ('{"errorCode": "403", "errorMessage": "m"}', 403),
        ('{"error": {"message": "Insufficient credits"}}', 402),
        ('{"error": {"message": "Incorrect API key provided"}}', 401),
        ('{"error": "Error code: 429 - try later"}', 429),
        ('{"error": "503 Service Unavailable"}', 503),
        ('{"error": "500 tokens more than fit, 404 rows"}', 500),
    ],
)
def test_error_in_a_good_reply_has_its_own_status(body: str, status: int) -> None:
    assert read_error(body, 200).status == status


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (openai("Incorrect API key provided: xx***yy."), 401),
        ('[{"error": {"code": 400, "message": "API key not valid.", "status": "INVALID_ARGUMENT"}}]', 401),
        (openai("model `solar` is not a valid model ID"), 404),
        (openai("This model: max_tokens not found in its settings"), 400),
        (openai("cannot process this"), 400),
    ],
)
def test_a_400_about_key_or_model_is_read_as_what_it_is(body: str, status: int) -> None:
    assert read_error(body, 400).status == status


@pytest.mark.parametrize(
    ("status", "body", "row"),
    [
        (400, openai("The response was filtered", "content_filter", "prompt"), "content_filter"),
        (400, '{"error": {"message": "m", "innererror": {"code": "ResponsibleAIPolicyViolation"}}}', "content_filter"),
        (400, openai("Content Exists Risk"), "content_filter"),
        (403, openai("Your input was flagged"), "content_filter"),
        (451, "", "content_filter"),
        (451, openai("Unavailable For Legal Reasons"), "content_filter"),
        (200, openai("Unavailable For Legal Reasons", 451), "content_filter"),
        (400, openai("m", "context_length_exceeded", "messages"), "context_length"),
        (400, openai("This model's maximum context length is 4096 tokens", 400, "max_tokens"), "context_length"),
        (500, '{"error": {"message": "the request exceeds the available context size"}}', "context_length"),
        (413, "<html><title>413 Request Entity Too Large</title></html>", "context_length"),
        (429, openai("Request too large for model: limit 30000 tokens per minute"), "context_length"),
        (429, openai("This request would exceed your rate limit of 40,000 input tokens per minute"), None),
        (
            400,
            openai("The decoder prompt (length 5000) is longer than the maximum model length of 4096"),
            "context_length",
        ),
        (
            400,
            openai("The input token count (120) exceeds the maximum number of tokens allowed (100)."),
            "context_length",
        ),
        (422, '{"error": "`inputs` tokens + `max_new_tokens` must be <= 4096. Given: 4000 and 512"}', "context_length"),
        (
            422,
            openai("Input validation error: `inputs` must have less than 4096 tokens. Given: 5012"),
            "context_length",
        ),
        (400, openai("안전하지 않은 콘텐츠가 감지되었습니다."), "content_filter"),
        (400, openai("`max_tokens` must be at most 8192, less than the `context_window`", None, "max_tokens"), None),
        (401, openai("Your prompt was blocked"), None),
        (400, openai("max_tokens is too large: 2048", None, "max_tokens"), None),
        (400, openai("bad request"), None),
    ],
)
def test_what_is_wrong_with_one_row_alone(status: int, body: str, row: str | None) -> None:
    assert read_error(body, status).row == row


@pytest.mark.parametrize(
    ("body", "part"),
    [
        (openai("Unsupported value: 'temperature' does not support 0.7", None, "temperature"), "temperature"),
        ("{'loc': ('body', 'temperature'), 'msg': 'Extra inputs are not permitted'}", "temperature"),
        ('{"detail": [{"loc": ["body", "response_format", "type"], "msg": "unexpected"}]}', "schema"),
        (openai("This model does not support response format `json_schema`"), "schema"),
        (openai("Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead."), "limit"),
        (openai("Unsupported value: 'messages[0].role' does not support 'system'", None, "messages[0].role"), "system"),
        (openai("System role not supported"), "system"),
        (openai("Conversation roles must alternate user/assistant/user/assistant/..."), "system"),
        (openai("Developer instruction is not enabled for models/gemma-3-27b-it"), "system"),
        (openai("Only user and assistant roles are supported!"), "system"),
        (openai("messages[0]: unknown variant `system`, expected `user` or `assistant`"), "system"),
        (openai("Invalid role: system. Must be one of user, assistant"), "system"),
        (openai("First message must be from user"), "system"),
        (openai("This model doesn't support the system field. Try again without it."), "system"),
        (openai('Unknown name "additionalProperties" at \'generation_config.response_schema\''), "schema"),
        (openai("It has a maxOutputTokens value of 100000 but the supported range is from 1 to 8193"), "limit"),
        (openai("max tokens must be at most 4096"), "limit"),
        (openai("bad request"), None),
    ],
)  # fmt: skip
def test_the_part_of_a_request_that_is_refused(body: str, part: str | None) -> None:
    error = read_error(body, 400)
    assert (error.part, error.row) == (part, None)


@pytest.mark.parametrize(
    ("status", "words", "part"),
    [
        (500, "System role not supported", "system"),
        (404, "No endpoints found that support the requested parameters: response_format", "schema"),
        (500, "the worker's temperature sensor has failed", None),
        (402, "requires more credits, or only fewer max_tokens", None),
        (503, "structured output is not supported while we restart", None),
    ],
)
def test_a_part_may_be_refused_with_another_status(status: int, words: str, part: str | None) -> None:
    assert read_error(openai(words), status).part == part


def test_the_shared_cases() -> None:
    folder = Path(__file__).parents[1] / "data/llm_errors"
    found = {path.stem: read_error(path.read_text(encoding="utf-8"), int(path.stem[:3])) for path in folder.iterdir()}
    assert {name: (error.status, error.row, error.part) for name, error in found.items()} == {
        "400_content_filter": (400, "content_filter", None),
        "400_temperature": (400, None, "temperature"),
        "403_region": (403, None, None),
        "200_rate_limit": (429, None, None),
    }
    assert found["403_region"].words == "Country, region, or territory not supported"


@given(JSON.map(json.dumps) | st.text(), st.sampled_from([200, 400, 500]))
def test_any_body_is_read(body: str, status: int) -> None:
    error = read_error(body, status)
    assert "\n" not in error.words
    assert error.row in (None, "content_filter", "context_length")
    assert error.part in (None, "temperature", "limit", "schema", "system")
