"""The protocol of OpenAI's chat completions, as its many servers speak it."""

from __future__ import annotations

import asyncio
import json
import logging
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from typing import Any, Literal

import aiohttp
import httpx2
from openai import APIConnectionError, APIStatusError, AsyncOpenAI, DefaultAioHttpClient, Omit
from pydantic import BaseModel, ValidationError

from stages.core.errors import UserError
from stages.core.params import Llm
from stages.llm.answer_store import Answer, Message, Request
from stages.llm.budget import estimate
from stages.llm.client import Busy, Refused
from stages.llm.server_errors import LONGEST, ServerError, is_json, one_line, read_error

TELEMETRY = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async", "Retry-Count")
"""What the client says of the machine in headers X-Stainless-...: nobody's business, and a tenth of its CPU time."""

RUN_AGAIN = "; what was answered is kept, run again to go on"

FILTERED = r"content.?filter|safety|prohibited|blocklist|spii|sensitive|recitation|moderation"
"""What servers call it, in `finish_reason`, when a filter ends an answer."""
BROKEN = ("error", "abort", "insufficient_system_resource")
"""What they call it when they fail on the way: OpenRouter, vLLM and DeepSeek."""
TEXTS = (None, "text", "output_text")
"""Types of the parts of an answer that are its text, and not what the model thought, cited or called."""

log = logging.getLogger(__name__)


class _Message(BaseModel):
    content: str | list[Any] | None = None
    refusal: Any = None
    tool_calls: Any = None
    function_call: Any = None


class _Choice(BaseModel):
    message: _Message | None = None
    finish_reason: str | None = None
    error: Any = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    """What is read of a chat completion; the client itself does not check what the server sends."""

    choices: list[_Choice | None] | None = None
    usage: _Usage | None = None
    error: Any = None


@dataclass(frozen=True)
class _Form:
    """How the server wants to be asked, learnt from its refusals."""

    structured: bool
    temperature: bool = True
    system: bool = True
    limit: Literal["max_tokens", "max_completion_tokens"] | None = "max_tokens"


class OpenAIApi:
    """A server at `augment.llm.base_url`.

    Args:
        settings: `augment.llm`.
        key: the API key, or None where none is to be sent.
        fields: the texts that the JSON object of an answer holds, if it is to be one.
    """

    def __init__(self, settings: Llm, key: str | None, fields: Sequence[str] = ()) -> None:
        self._settings = settings
        self._key = key
        self._fields = fields
        self._server = f"augment.llm.base_url = {settings.base_url!r}"
        self._form = _Form(structured=bool(fields) and settings.structured != "none")
        self._headers = {f"X-Stainless-{name}": Omit() for name in TELEMETRY}
        if key is None:
            self._headers["Authorization"] = Omit()
        self._client = AsyncOpenAI(
            api_key=key or "none",
            base_url=settings.base_url,
            timeout=None,  # a limit on each read, which a body that trickles never meets; see _post
            max_retries=0,
            http_client=DefaultAioHttpClient(timeout=None),
        )

    async def close(self) -> None:
        await self._client.close()

    async def send(self, request: Request) -> Answer:
        """Send a request, again without the part that the server refuses, as often as it names another one.

        Raises:
            Busy, Refused, UserError: see `client.Api`.
        """
        while True:
            form = self._form
            response = await self._post(self._body(request, form))
            found = self._read(response, request)
            if isinstance(found, Answer):
                return found
            if not self._adapt(form, found):
                raise self._failure(found, form, _retry_after(response.headers.get("retry-after")))

    def _body(self, request: Request, form: _Form) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": request.messages if form.system else _without_system(request.messages),
        }
        if form.temperature:
            body["temperature"] = request.temperature
        if form.limit:
            body[form.limit] = request.max_answer_tokens
        if form.structured:
            body["response_format"] = _response_format(self._fields)
        return body

    async def _post(self, body: dict[str, Any]) -> httpx2.Response:
        """Send once, by `post`: `chat.completions.create` costs three times the CPU, to walk through every message.

        Raises:
            Busy: no reply came.
        """
        try:
            async with asyncio.timeout(self._settings.timeout):
                return await self._client.post(
                    "/chat/completions", body=body, cast_to=httpx2.Response, options={"headers": self._headers}
                )
        except TimeoutError:
            message = f"{self._server}: no answer within augment.llm.timeout = {self._settings.timeout:g} s{RUN_AGAIN}"
            raise Busy("timeout", UserError(message)) from None
        except APIStatusError as error:
            return error.response
        except (APIConnectionError, aiohttp.ClientError):  # the client leaves what is no HTTP as it is
            message = f"{self._server}: no connection; check the address and the network{RUN_AGAIN}"
            raise Busy("connection lost", UserError(message)) from None

    def _read(self, response: httpx2.Response, request: Request) -> Answer | ServerError:
        """The answer of a reply, or the error: some servers put it into a reply of status 200.

        Raises:
            Busy: it is neither, or an answer with nothing in it.
        """
        if not response.is_success:
            return read_error(response.text, response.status_code)
        try:
            completion = _Completion.model_validate_json(response.content)
        except ValidationError:
            return self._read_other(response.text)
        choice = next(iter(completion.choices or ()), None)
        if choice and choice.error:
            return read_error(json.dumps(choice.error))
        if choice and (choice.message or choice.finish_reason):  # Gemini leaves the message out where it filters
            return self._answer(choice, choice.message or _Message(), completion.usage or _Usage(), request)
        if "choices" in completion.model_fields_set and not completion.error:
            words = self._say(f"an answer with nothing in it: {response.text}")
            raise Busy("with nothing in them", Refused("refused", words), tries=2)
        return self._read_other(response.text)

    def _read_other(self, text: str) -> ServerError:
        """The error in what is no chat completion.

        Raises:
            Busy: there is none.
        """
        error = read_error(text)
        if is_json(text) and (error.words or error.status != 500):
            return error
        words = "" if text.lstrip().startswith(("{", "[")) else self._say(error.words)
        message = (
            f"{self._server}: its answer is not a chat completion; "
            f"the address of an OpenAI-compatible server mostly ends in /v1{_says(words)}"
        )
        raise Busy("not a chat completion", UserError(message))

    def _answer(self, choice: _Choice, message: _Message, took: _Usage, request: Request) -> Answer:
        """The answer of a choice.

        Raises:
            Busy: the server failed before its end.
        """
        text, refusal = _text(message.content), _refusal(message)
        reason = choice.finish_reason or "stop"
        if reason.lower() in BROKEN:
            raise Busy("broken off", Refused("refused", f"an answer that ends with finish_reason {reason!r}"), tries=2)
        if re.search(FILTERED, reason, re.IGNORECASE):
            reason, refusal = "content_filter", refusal or text
        elif refusal:
            reason = "refusal"
        elif (called := message.tool_calls or message.function_call) and not text:
            reason, refusal = "tool_calls", json.dumps(called, ensure_ascii=False)
        expected = estimate(request.messages, request.max_answer_tokens)
        return Answer(
            model=request.model,
            text=text,
            finish_reason=reason,
            prompt_tokens=expected.prompt_tokens if took.prompt_tokens is None else took.prompt_tokens,
            completion_tokens=expected.completion_tokens if took.completion_tokens is None else took.completion_tokens,
            refusal=self._say(refusal),
        )

    def _adapt(self, form: _Form, error: ServerError) -> bool:
        """Ask in another form from now on, where the server refuses a part of this one; say whether there is one."""
        part = error.part
        if error.row or part is None:
            return False
        if self._form != form:
            return True  # another request has just learnt it
        if part == "temperature" and form.temperature:
            new, what = replace(form, temperature=False), "temperature, going on without"
        elif part == "limit" and form.limit == "max_tokens":  # OpenAI's reasoning models
            new, what = replace(form, limit="max_completion_tokens"), "max_tokens, going on with max_completion_tokens"
        elif part == "limit" and form.limit:
            new, what = replace(form, limit=None), f"{form.limit}, going on without"
        elif part == "schema" and form.structured and self._settings.structured == "auto":
            new, what = replace(form, structured=False), "a JSON schema, going on without"
        elif part == "system" and form.system:
            new, what = replace(form, system=False), "a system message, going on with its text in the first question"
        else:
            return False
        self._form = new
        log.info("the server refuses %s: %s", what, self._quote(error))
        return True

    def _failure(self, error: ServerError, form: _Form, retry_after: float) -> Exception:
        """What to raise for an error."""
        if error.row:
            return Refused(error.row, self._say(error.words) or self._quote(error))
        stop = UserError(self._explain(error, form))
        if error.unpaid:
            return stop
        if error.spoilt:
            return Busy("answers off the schema", Refused("refused", self._say(error.words)), tries=2)
        if error.status in (408, 409, 429) or error.status >= 500:
            return Busy(str(error.status), stop, retry_after)
        if error.status in (400, 422):
            return Refused("refused", self._say(error.words) or self._quote(error), otherwise=stop)
        return stop

    def _explain(self, error: ServerError, form: _Form) -> str:
        """Say in one line what went wrong, what to do about it, and what the server says."""
        settings, status = self._settings, error.status
        says = _says(self._say(error.words))
        match status:
            case 401 | 403 if not self._key:
                return f"{self._server}: wants a key ({status}); name its variable in augment.llm.api_key_env{says}"
            case 401:
                return f"{self._server}: the key in {settings.api_key_env} is refused ({status}); check .env{says}"
            case 403:
                return f"{self._server}: not allowed with the key in {settings.api_key_env} ({status}){says}"
            case 404:
                found = f"augment.llm.model = {settings.model!r}: not found at {settings.base_url} (404)"
                return f"{found}; check both{says}"
            case 402:
                return f"{self._server}: wants to be paid (402){says}{RUN_AGAIN}"
            case 429:
                slower = "lower augment.llm.requests_per_minute or concurrency, or check your quota"
                return f"{self._server}: {self._quote(error)}; {slower}{RUN_AGAIN}"
        maybe = "; if it knows no JSON schema, set augment.llm.structured: none"
        guess = form.structured and status in (400, 422) and error.part is None
        return f"{self._server}: {self._quote(error)}{maybe if guess else ''}{RUN_AGAIN}"

    def _quote(self, error: ServerError) -> str:
        words = self._say(error.words)
        return f"Error code: {error.status}" + (f" - {words}" if words else "")

    def _say(self, words: str) -> str:
        """What the server says, on one line; it may quote the key."""
        if self._key:
            words = words.replace(self._key, "***")
        return one_line(words)[:LONGEST]


def _says(words: str) -> str:
    return f"; the server says: {words}" if words else ""


def _text(content: str | list[Any] | None) -> str:
    """The text of an answer, which may come in parts; what is no text, such as a model's thoughts, is left out."""
    if not isinstance(content, list):
        return content or ""
    parts = [part if isinstance(part, dict) else {"text": part} for part in content]
    texts = [part.get("text") for part in parts if part.get("type") in TEXTS and not part.get("thought")]
    texts = [text.get("value") if isinstance(text, dict) else text for text in texts]
    return "".join(text for text in texts if isinstance(text, str))


def _refusal(message: _Message) -> str:
    """What a model says where it refuses: in a string mostly, or whatever stands in its place."""
    parts = message.content if isinstance(message.content, list) else []
    found = filter(None, [message.refusal, *(part.get("refusal") for part in parts if isinstance(part, dict))])
    return " ".join(words if isinstance(words, str) else json.dumps(words, ensure_ascii=False) for words in found)


def _without_system(messages: list[Message]) -> list[Message]:
    """The same conversation, its instructions at the head of the first question."""
    instructions = [message["content"] for message in messages if message["role"] == "system"]
    first, *others = [message for message in messages if message["role"] != "system"]
    return [first | {"content": "\n\n".join([*instructions, first["content"]])}, *others]


def _response_format(fields: Sequence[str]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "properties": {field: {"type": "string"} for field in fields},
        "required": list(fields),
        "additionalProperties": False,
    }
    return {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}


def _retry_after(header: str | None) -> float:
    """Read Retry-After, seconds or an HTTP date, as seconds from now; 0 where it is missing, past or unreadable."""
    try:
        return max(0.0, float(header or 0))
    except ValueError:
        pass
    try:
        return max(0.0, parsedate_to_datetime(header or "").timestamp() - time.time())
    except (ValueError, OverflowError):
        return 0.0
