"""Work shared between processes, its results in the order of the input: as if one process had done it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context
from typing import TypeVar

T = TypeVar("T")
R = TypeVar("R")


def available_cores() -> int:
    """The cores that this process may use; all there are on a system that cannot restrict it, as macOS."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def map_ordered(function: Callable[[T], R], items: Iterable[T], workers: int) -> Iterator[R]:
    """Yield function(item) for each item, in order; an exception is raised where its result would be.

    Items are taken as results are used, so that only a few of either are in memory.

    Args:
        function: of a module's top level, or a `partial` of one, when there are workers.
        workers: processes; with fewer than two, this process does the work.
    """
    if workers < 2:
        yield from map(function, items)
        return
    # A fresh interpreter for each worker: a fork would share the locks of this process's threads.
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        pending: deque[Future[R]] = deque()
        try:
            for item in items:
                pending.append(pool.submit(function, item))
                if len(pending) > 2 * workers:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
