"""Works through batches with a progress bar, and goes on where a killed run was."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

from tqdm import tqdm

from stages.decoding.resume_log import ResumeLog
from stages.engines.batches import Tell

T = TypeVar("T")
Deal = Callable[[Sequence[list[int]], Tell], Iterable[tuple[int, list[T]]]]
"""Does work on batches of rows, and gives the number of each and a value for each of its rows, as they come.

It tells how many rows are done.
"""
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"


def run_batches(deal: Deal[T], batches: Sequence[list[int]], label: str, log: ResumeLog | None = None) -> list[T]:
    """Do work on batches of rows, with a progress bar where there are any.

    Args:
        deal: with a log, its values are ones that JSON holds.
        batches: rows 0, 1, 2 and so on, in any order.
        log: batches that it has are not done again, so a resumed run has the batches of an uninterrupted one.

    Returns:
        The values of all rows, in order.
    """
    done: dict[int, T] = {}
    total = sum(map(len, batches))
    kept = log.values if log is not None else {}
    missing = [number for number in range(len(batches)) if number not in kept]
    with tqdm(total=total, desc=label, unit=" dialogues", bar_format=BAR, disable=not total) as bar:
        for number in kept.keys() & range(len(batches)):
            done.update(zip(batches[number], kept[number], strict=True))
        bar.initial = len(done)
        bar.update(len(done))
        for position, values in deal([batches[number] for number in missing], bar.update):
            number = missing[position]
            if log is not None:
                log.append(number, values)
            done.update(zip(batches[number], values, strict=True))
    return [done[row] for row in range(total)]
