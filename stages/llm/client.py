"""One question to a server that speaks the OpenAI protocol, asked until it is answered."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Annotated, Any, Literal

import aiohttp
import httpx2
from openai import (
    APIConnectionError,
    APIError,
    APIStatusError,
    AsyncOpenAI,
    AuthenticationError,
    DefaultAioHttpClient,
    NotFoundError,
    Omit,
    PermissionDeniedError,
    RateLimitError,
)
from pydantic import BaseModel, Field, ValidationError

from stages.core.errors import UserError
from stages.core.params import Llm
from stages.llm.answer_store import Answer, Request
from stages.llm.budget import estimate
from stages.llm.rate_limit import RateLimit

MAX_TRIES = 12
"""Times that a request is sent before the run stops, at most about a minute: 0.5 s apart, doubling up to 8 s."""
FIRST_TRIES = 4
"""The same while the server has not answered anything yet: its address may be wrong."""
MAX_WAIT = 120.0
"""The longest Retry-After that is waited for, in seconds."""

TELEMETRY = ("Lang", "Package-Version", "OS", "Arch", "Runtime", "Runtime-Version", "Async", "Retry-Count")
"""What the client says of the machine in headers X-Stainless-...: nobody's business, and a tenth of its CPU time."""

RUN_AGAIN = "; what was answered is kept, run again to go on"

log = logging.getLogger(__name__)


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Usage(BaseModel):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None


class _Completion(BaseModel):
    """What is read of a chat completion; the client itself does not check what the server sends."""

    choices: Annotated[list[_Choice], Field(min_length=1)]
    usage: _Usage | None = None


class _Fault(Exception):
    """A try that failed and may be repeated."""

    def __init__(self, kind: str, message: str, retry_after: float = 0.0) -> None:
        super().__init__(message)
        self.kind = kind
        """A few words, by which faults are counted."""
        self.retry_after = retry_after
        """Seconds that the server asks to wait; 0 where it says nothing."""


@dataclass(frozen=True)
class _Form:
    """How the server wants to be asked, learnt from its refusals."""

    structured: bool
    limit: Literal["max_tokens", "max_completion_tokens"] = "max_tokens"


class Server:
    """The server of `augment.llm`, open while its `async with` block lasts.

    Args:
        settings: `augment.llm`.
        key: the API key, or None where none is to be sent.
        fields: the texts that the JSON object of an answer holds, if it is to be one.
    """

    def __init__(self, settings: Llm, key: str | None, fields: Sequence[str] = ()) -> None:
        self.faults: Counter[str] = Counter()
        """The tries that failed, by what happened."""
        self.stopping = False
        """Set to true where no try is to be repeated any more."""
        self._settings = settings
        self._key = key
        self._fields = fields
        self._form = _Form(structured=bool(fields) and settings.structured != "none")
        self._answered = False
        self._requests = RateLimit(settings.requests_per_minute)
        self._tokens = RateLimit(settings.tokens_per_minute)
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

    async def __aenter__(self) -> Server:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._client.close()

    async def answer(self, request: Request) -> Answer:
        """Ask until there is an answer. One that is cut off at max_tokens is asked for once more, and then taken.

        Raises:
            UserError: the server refuses, or still has no answer after MAX_TRIES.
        """
        first = await self._ask(request)
        if first.finish_reason != "length" or self.stopping:
            return first
        self.faults["cut off at max_tokens"] += 1
        second = await self._ask(request)
        return replace(
            second,
            prompt_tokens=first.prompt_tokens + second.prompt_tokens,
            completion_tokens=first.completion_tokens + second.completion_tokens,
        )

    async def _ask(self, request: Request) -> Answer:
        tries = 0
        while True:
            form = self._form
            try:
                return await self._try(request, form)
            except _Fault as fault:
                tries += 1
                self.faults[fault.kind] += 1
                last = tries >= (MAX_TRIES if self._answered else FIRST_TRIES)
                if last or self.stopping or fault.retry_after > MAX_WAIT:
                    raise UserError(str(fault)) from None
                self._requests.pause(fault.retry_after)  # for all: the server limits the key, not the request
                wait = fault.retry_after or min(0.5 * 2 ** (tries - 1), 8.0)
                await asyncio.sleep(wait * random.uniform(1.0, 1.25))
            except APIStatusError as error:
                self._adapt(form, error)

    async def _try(self, request: Request, form: _Form) -> Answer:
        expected = estimate(request.messages, request.max_tokens)
        await self._tokens.take(expected.tokens)
        await self._requests.take()
        completion = await self._post(self._body(request, form))
        self._answered = True
        choice = completion.choices[0]
        took = completion.usage or _Usage()
        answer = Answer(
            model=request.model,
            text=choice.message.content or "",
            finish_reason=choice.finish_reason or "stop",
            prompt_tokens=expected.prompt_tokens if took.prompt_tokens is None else took.prompt_tokens,
            completion_tokens=expected.completion_tokens if took.completion_tokens is None else took.completion_tokens,
        )
        self._tokens.correct(answer.usage.tokens - expected.tokens)
        return answer

    def _body(self, request: Request, form: _Form) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": request.model,
            "messages": request.messages,
            "temperature": request.temperature,
            form.limit: request.max_tokens,
        }
        if form.structured:
            body["response_format"] = _response_format(self._fields)
        return body

    async def _post(self, body: dict[str, Any]) -> _Completion:
        """Send once, by `post`: `chat.completions.create` costs three times the CPU, to walk through every message.

        Raises:
            _Fault: no answer came, or none that can be read.
            APIStatusError: the server refuses the form of the request.
            UserError: the server refuses for good.
        """
        settings = self._settings
        server = f"augment.llm.base_url = {settings.base_url!r}"
        try:
            async with asyncio.timeout(settings.timeout):
                response = await self._client.post(
                    "/chat/completions", body=body, cast_to=httpx2.Response, options={"headers": self._headers}
                )
            return _Completion.model_validate_json(response.content)
        except TimeoutError:
            message = f"{server}: no answer within augment.llm.timeout = {settings.timeout:g} s{RUN_AGAIN}"
            raise _Fault("timeout", message) from None
        except ValidationError:
            message = (
                f"{server}: its answer is not a chat completion; "
                "the address of an OpenAI-compatible server mostly ends in /v1"
            )
            raise _Fault("not a chat completion", message) from None
        except (APIConnectionError, aiohttp.ClientError):  # the client leaves what is no HTTP as it is
            message = f"{server}: no connection; check the address and the network{RUN_AGAIN}"
            raise _Fault("connection lost", message) from None
        except APIStatusError as error:
            busy = error.status_code in (408, 409, 429) and error.code != "insufficient_quota"
            if busy or error.status_code >= 500:
                wait = _retry_after(error.response.headers.get("retry-after"))
                raise _Fault(str(error.status_code), self._explain(error), wait) from None
            if error.status_code in (400, 422):
                raise
            raise UserError(self._explain(error)) from None

    def _adapt(self, form: _Form, error: APIStatusError) -> None:
        """Ask in another form from now on, if there is one that the server has not refused.

        Raises:
            UserError: there is none.
        """
        if self._form != form:
            return  # another request has just learnt it
        words = self._words(error)
        if form.limit == "max_tokens" and "max_completion_tokens" in words:  # OpenAI's reasoning models
            self._form = replace(form, limit="max_completion_tokens")
        elif form.structured and self._settings.structured == "auto":
            self._form = replace(form, structured=False)
            log.info("the server refuses a JSON schema, going on without: %s", words)
        else:
            raise UserError(self._explain(error)) from None

    def _words(self, error: APIError) -> str:
        """What the server says, on one line; it may quote the key."""
        words = str(error)
        if self._key:
            words = words.replace(self._key, "***")
        return " ".join(words.split())[:300]

    def _explain(self, error: APIStatusError) -> str:
        """Say in one line what went wrong and what to do about it."""
        settings = self._settings
        server = f"augment.llm.base_url = {settings.base_url!r}"
        match error:
            case AuthenticationError() | PermissionDeniedError() if not self._key:
                return f"{server}: wants a key ({error.status_code}); name its variable in augment.llm.api_key_env"
            case AuthenticationError() | PermissionDeniedError():
                return f"{server}: the key in {settings.api_key_env} is refused ({error.status_code}); check .env"
            case NotFoundError():
                return f"augment.llm.model = {settings.model!r}: not found at {settings.base_url} (404); check both"
            case RateLimitError():
                return (
                    f"{server}: {self._words(error)}; lower augment.llm.requests_per_minute or concurrency, "
                    f"or check your quota{RUN_AGAIN}"
                )
        return f"{server}: {self._words(error)}{RUN_AGAIN}"


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
