from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from stages.llm.rate_limit import RateLimit


async def times(steps: list[Callable[[], Awaitable[None]]]) -> list[float]:
    """When each step ended, in tenths of a second since the start; all start at once."""
    loop = asyncio.get_running_loop()
    start = loop.time()

    async def timed(step: Callable[[], Awaitable[None]]) -> float:
        await step()
        return round((loop.time() - start) * 10)

    return list(await asyncio.gather(*(timed(step) for step in steps)))


@pytest.mark.parametrize(("per_minute", "expected"), [(0, [0, 0, 0]), (600, [0, 1, 2]), (300, [0, 2, 4])])
def test_turns_are_evenly_spaced(per_minute: int, expected: list[int]) -> None:
    async def run() -> list[float]:
        limit = RateLimit(per_minute)
        return await times([limit.take] * 3)

    assert asyncio.run(run()) == expected


def test_a_large_take_delays_the_next_one_and_is_corrected() -> None:
    async def run() -> list[float]:
        limit = RateLimit(600)
        await limit.take(5)
        limit.correct(-2)
        return await times([limit.take] * 2)

    assert asyncio.run(run()) == [3, 4]


def test_nobody_goes_while_paused_limit_or_not() -> None:
    async def run() -> list[float]:
        limit = RateLimit(0)
        limit.pause(0.3)
        limit.pause(0.1)
        return await times([limit.take] * 2)

    assert asyncio.run(run()) == [3, 3]
