"""Has writers do work on the dialogues of several tables, in batches that are the same whoever works on them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any, TypeVar

from stages.decoding.resume_log import ResumeLog
from stages.decoding.run_batches import run_batches
from stages.decoding.workers import Workers
from stages.engines.batches import Tell
from stages.engines.writer import Writer

T = TypeVar("T")


@dataclass(frozen=True)
class Table:
    """Dialogues to summarize.

    Attributes:
        writer: the number of the one that writes alone; without, all of them have candidates.
    """

    dialogues: Sequence[str]
    writer: int | None = None

    def writers(self, loaded: Sequence[Writer]) -> Sequence[Writer]:
        """Those that write."""
        return loaded if self.writer is None else [loaded[self.writer]]


def in_batches(
    workers: Workers[Sequence[Writer]],
    tables: Sequence[Table],
    work: Callable[..., list[T]],
    arguments: tuple[Any, ...],
    *,
    divide: Callable[[Sequence[int]], list[list[int]]],
    label: str,
    log: ResumeLog | None = None,
) -> list[list[T]]:
    """A value for each dialogue, for each table in the order of its dialogues; no batch has rows of two tables.

    Args:
        work: of a module's top level. It is given the writers, something to tell how many rows are done, a `Table` with
            the dialogues of a batch, and the arguments; it gives a value for each of these dialogues.
        divide: from the tokens of a table's prompts to batches of its rows.
        log: what a killed run made is taken from it.
    """
    lengths = workers.each(_prepare, tables)[0]
    rows = [(table, dialogue) for table in tables for dialogue in table.dialogues]
    starts = list(accumulate((len(table.dialogues) for table in tables), initial=0))
    cut = [[start + row for row in batch] for start, end in pairwise(starts) for batch in divide(lengths[start:end])]

    def deal(missing: Sequence[list[int]], tell: Tell) -> Iterator[tuple[int, list[T]]]:
        batches = [Table([rows[row][1] for row in batch], rows[batch[0]][0].writer) for batch in missing]
        return workers.deal(work, [(batch, *arguments) for batch in batches], tell)

    answers = run_batches(deal, cut, label, log)
    return [answers[start:end] for start, end in pairwise(starts)]


def _prepare(writers: Sequence[Writer], tables: Sequence[Table]) -> list[int]:
    """The tokens of all prompts; each writer has read what those begin with that it writes after."""
    lengths: dict[int, int] = {}
    rows = [(table.writer, dialogue) for table in tables for dialogue in table.dialogues]
    for number, writer in enumerate(writers):
        own = {row: dialogue for row, (by, dialogue) in enumerate(rows) if by in (None, number)}
        prepared = zip(own, writer.prepare(list(own.values())), strict=True) if own else ()
        lengths = {**dict(prepared), **lengths}  # batches are cut by the first writer's
    return [lengths[row] for row in range(len(rows))]
