"""Works through batches with a progress bar, and goes on where a killed run was."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeVar

from tqdm import tqdm

from stages.decoding.resume_log import ResumeLog
from stages.engines.batches import Tell

T = TypeVar("T")
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"


def run_batches(
    work: Callable[[list[int], Tell], list[T]],
    batches: Sequence[list[int]],
    label: str,
    log: ResumeLog | None = None,
) -> list[T]:
    """Do work on batches of rows, with a progress bar where there are any.

    Args:
        work: takes rows and gives a value for each, with a log one that JSON holds; it tells how many are done.
        batches: rows 0, 1, 2 and so on, in any order.
        log: batches that it has are not done again, so a resumed run has the batches of an uninterrupted one.

    Returns:
        The values of all rows, in order.
    """
    done: dict[int, T] = {}
    total = sum(map(len, batches))
    with tqdm(total=total, desc=label, unit=" dialogues", bar_format=BAR, disable=not total) as bar:
        for number, rows in enumerate(batches):
            if log is not None and number in log.values:
                values = log.values[number]
                bar.initial += len(rows)
                bar.update(len(rows))
            else:
                values = work(rows, bar.update)
                if log is not None:
                    log.append(number, values)
            done.update(zip(rows, values, strict=True))
    return [done[row] for row in range(len(done))]
