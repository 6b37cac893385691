"""Ask a server that speaks the OpenAI protocol, several requests at once; no answer is asked for twice."""

from __future__ import annotations

import asyncio
import os
from collections import Counter, deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, cast

from dotenv import dotenv_values
from openai import (
    APIConnectionError,
    APIError,
    APITimeoutError,
    AsyncOpenAI,
    AuthenticationError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitError,
)
from openai.types.chat import ChatCompletionMessageParam
from pydantic import BaseModel, Field, ValidationError
from tqdm import tqdm

from stages.common.answers import Answers, Message, Request
from stages.common.errors import UserError
from stages.common.params import Llm

MAX_RETRIES = 6
"""Times that the client sends a request again after a lost connection, a timeout, 408, 409, 429 or 5xx.

It waits as long as Retry-After says, up to two minutes; otherwise 0.5 s, doubling up to 8 s, with jitter.
"""

_RUN_AGAIN = "; what was answered is kept, run again to go on"


class _Message(BaseModel):
    content: str | None


class _Choice(BaseModel):
    message: _Message


class _Completion(BaseModel):
    """What is read of a chat completion; the client itself does not check what the server sends."""

    choices: Annotated[list[_Choice], Field(min_length=1)]


def ask(stage: str, conversations: Sequence[list[Message]], settings: Llm, answers: Answers) -> list[str]:
    """Answer each conversation, from `answers` or by the server, whose answers are added to `answers`.

    Args:
        stage: the section of `augment` that asks, for the progress bar and the error messages.
        conversations: the messages of each request.
        settings: `augment.llm`. A key is read only where an answer is missing.
        answers: where answers are kept.

    Returns:
        One text per conversation, in their order.

    Raises:
        UserError: there is no key, or the server cannot be reached or refuses; what was answered is kept.
    """
    requests = _requests(conversations, settings)
    missing = [request for request in requests if request not in answers]
    if missing:
        key = read_key(settings.api_key_env)
        if key is None:
            name = settings.api_key_env
            raise UserError(
                f"{name} is not set and {len(missing)} answers are to be asked for; "
                f"put it in .env (see .env.example), or set augment.{stage}.n: 0"
            )
        with tqdm(total=len(missing), desc=stage, unit="request") as progress:
            asyncio.run(_ask_all(missing, settings, key, answers, progress))
    return [answers[request] for request in requests]


def _requests(conversations: Sequence[list[Message]], settings: Llm) -> list[Request]:
    """A request for each conversation; one that occurs again asks for another sample."""
    requests = []
    samples: Counter[str] = Counter()
    for messages in conversations:
        request = Request(settings.model, messages, settings.temperature, settings.max_tokens)
        requests.append(replace(request, sample=samples[request.key]))
        samples[request.key] += 1
    return requests


def read_key(name: str) -> str | None:
    """Look for an API key in the environment, then in `.env` of $DVC_ROOT, then of the working folder.

    DVC sets $DVC_ROOT to the user's repository, also for an experiment that runs in a copy without `.env`.

    Raises:
        UserError: `.env` is not UTF-8, or the value cannot be sent in a header.
    """
    key = os.environ.get(name)
    for folder in (os.environ.get("DVC_ROOT"), "."):
        if not key and folder:
            key = _dotenv(Path(folder) / ".env").get(name)
    key = (key or "").strip()
    # The client's own exceptions for such a key quote it, or blame the connection.
    if not key.isascii() or not key.isprintable() or " " in key:
        raise UserError(f"{name}: holds a space or a character that no API key has; check .env and the environment")
    return key or None


def _dotenv(path: Path) -> dict[str, str | None]:
    try:
        return dotenv_values(path, interpolate=False, encoding="utf-8-sig")
    except UnicodeDecodeError:
        raise UserError(f"{path}: not UTF-8; save it as UTF-8") from None


async def _ask_all(requests: Sequence[Request], settings: Llm, key: str, answers: Answers, progress: tqdm) -> None:
    waiting = deque(requests)

    async def work(client: AsyncOpenAI) -> None:
        while waiting:
            request = waiting.popleft()
            try:
                answers.add(request, await _ask_one(client, request, settings, key))
            except BaseException:
                waiting.clear()  # no new request; those under way end, so that what is paid for is kept
                raise
            progress.update()

    async with AsyncOpenAI(
        api_key=key, base_url=settings.base_url, timeout=settings.timeout, max_retries=MAX_RETRIES
    ) as client:
        workers = [work(client) for _ in range(min(settings.concurrency, len(requests)))]
        outcomes = await asyncio.gather(*workers, return_exceptions=True)
    for failure in filter(None, outcomes):
        raise failure


async def _ask_one(client: AsyncOpenAI, request: Request, settings: Llm, key: str) -> str:
    try:
        response = await client.chat.completions.with_raw_response.create(
            model=request.model,
            messages=cast(list[ChatCompletionMessageParam], request.messages),
            temperature=request.temperature,
            max_tokens=request.max_tokens,
        )
        completion = _Completion.model_validate_json(response.content)
    except APIError as error:
        raise UserError(_explain(error, settings, key)) from None
    except ValidationError:
        raise UserError(
            f"augment.llm.base_url = {settings.base_url!r}: its answer is not a chat completion; "
            "the address of an OpenAI-compatible server mostly ends in /v1"
        ) from None
    return completion.choices[0].message.content or ""


def _explain(error: APIError, settings: Llm, key: str) -> str:
    """Say in one line what went wrong and what to do about it."""
    server = f"augment.llm.base_url = {settings.base_url!r}"
    words = " ".join(str(error).replace(key, "***").split())[:300]  # a server may quote the key
    match error:
        case APITimeoutError():
            return f"{server}: no answer within augment.llm.timeout = {settings.timeout:g} s{_RUN_AGAIN}"
        case APIConnectionError():
            return f"{server}: no connection; check the address and the network{_RUN_AGAIN}"
        case AuthenticationError() | PermissionDeniedError():
            return f"{server}: the key in {settings.api_key_env} is refused ({error.status_code}); check .env"
        case NotFoundError():
            return f"augment.llm.model = {settings.model!r}: not found at {settings.base_url} (404); check both"
        case RateLimitError():
            return f"{server}: {words}; lower augment.llm.concurrency, or check your quota{_RUN_AGAIN}"
    return f"{server}: {words}{_RUN_AGAIN}"
