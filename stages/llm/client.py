"""One question to a server, asked until it is answered, whatever protocol the server speaks."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from dataclasses import replace
from types import TracebackType
from typing import Protocol

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


class Busy(Exception):
    """A try that failed and may be repeated, after a while.

    Args:
        kind: a few words, by which such tries are counted.
        last: what is raised where no try is left.
        retry_after: seconds that the server asks to wait; 0 where it says nothing.
        tries: how often at most this is tried.
    """

    def __init__(self, kind: str, last: Exception, retry_after: float = 0.0, tries: int = MAX_TRIES) -> None:
        super().__init__(kind)
        self.kind, self.last, self.retry_after, self.tries = kind, last, retry_after, tries


class Refused(Exception):
    """The server answers others, and not this one.

    Args:
        reason: one of `answer_store.REFUSALS`.
        words: what the server says.
        otherwise: what it is where nothing else has been answered either, if that makes a difference.
    """

    def __init__(self, reason: str, words: str, otherwise: UserError | None = None) -> None:
        super().__init__(words)
        self.reason, self.words, self.otherwise = reason, words, otherwise


class Api(Protocol):
    """A protocol that servers speak; a class for each kind."""

    async def send(self, request: Request) -> Answer:
        """Send a request once; it may be sent again in another form, where the server names a part that it refuses.

        Raises:
            Busy: no answer came, and one may come later.
            Refused: none comes to this request.
            UserError: none comes to any request.
        """

    async def close(self) -> None:
        """End all connections."""


class Client:
    """Asks the server of `augment.llm`, within its limits, while its `async with` block lasts.

    Args:
        api: how the server is asked.
        settings: `augment.llm`.
        proven: whether the server has answered in an earlier run: a refusal is about its request then.
    """

    def __init__(self, api: Api, settings: Llm, proven: bool = False) -> None:
        self.faults: Counter[str] = Counter()
        """The tries that failed, by what happened."""
        self.stopping = False
        """Set to true where no try is to be repeated any more."""
        self._api = api
        self._proven = proven
        self._answered = False
        self._requests = RateLimit(settings.requests_per_minute)
        self._tokens = RateLimit(settings.tokens_per_minute)

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._api.close()

    async def answer(self, request: Request) -> Answer:
        """Ask until there is an answer. One that is cut off at max_tokens is asked for once more, and then taken.

        Raises:
            Refused: the server does not answer this request.
            UserError: it answers none, or still has no answer after MAX_TRIES.
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
            try:
                return await self._try(request)
            except Busy as busy:
                tries += 1
                self.faults[busy.kind] += 1
                last = tries >= min(busy.tries, MAX_TRIES if self._answered else FIRST_TRIES)
                if last or self.stopping or busy.retry_after > MAX_WAIT:
                    raise busy.last from None
                self._requests.pause(busy.retry_after)  # for all: the server limits the key, not the request
                wait = busy.retry_after or min(0.5 * 2 ** (tries - 1), 8.0)
                await asyncio.sleep(wait * random.uniform(1.0, 1.25))
            except Refused as refused:
                if refused.otherwise and not (self._answered or self._proven):
                    raise refused.otherwise from None
                raise

    async def _try(self, request: Request) -> Answer:
        expected = estimate(request.messages, request.max_answer_tokens).tokens
        await self._tokens.take(expected)
        await self._requests.take()
        answer = await self._api.send(request)
        self._answered = True
        self._tokens.correct(answer.usage.tokens - expected)
        return answer
