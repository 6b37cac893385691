"""The course of a stage that lets a language model write rows: what is sent is checked, what comes back is sifted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic

from stages.augment.answer_rows import Generated, Rejection, Source, outcome, sift, write_outputs
from stages.augment.novelty import Novelty
from stages.augment.privacy import refuse_personal_data
from stages.core import paths
from stages.core.params import Llm, Quality
from stages.corpus.tables import Row
from stages.llm.answer_store import Answers, Message
from stages.llm.ask import ask, plan

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Method(Generic[Source]):
    """How rows are generated, each from a source: a training row, or a brief drawn from several."""

    stage: str
    """The section of `augment` that it stands in."""
    table: Path
    answers: Path
    fields: Sequence[str]
    """What an answer's JSON object holds."""
    conversation: Callable[[Source], list[Message]]
    sent: Callable[[Source], list[tuple[str, str]]]
    """The texts of training rows that a conversation holds, each with its row's fname."""
    origin: Callable[[Source], str]
    """The fname of the training row behind a source."""
    row: Callable[[Source, Generated, Quality], Row]
    """The row of an answer; it raises Rejected."""
    rewrites: bool = False
    """Whether a row is its origin in other words."""
    others: Sequence[Path] = ()
    """Tables of generated rows that a new one must not repeat either."""


def generate(method: Method[Source], sources: Sequence[Source], llm: Llm, quality: Quality, dry_run: bool) -> None:
    """Ask for a row of each source, and write the method's outputs; a dry run prints what that takes, and asks nothing.

    Raises:
        UserError: personal data would be sent, or the language model cannot be asked.
    """
    refuse_personal_data(paths.TRAIN, (pair for source in sources for pair in method.sent(source)), llm)
    conversations = [method.conversation(source) for source in sources]
    answers = Answers(method.answers)
    if dry_run:
        print(plan(method.stage, conversations, llm, answers))
        return

    rows: list[Row] = []
    rejections: list[Rejection] = []
    if sources:
        ask(method.stage, conversations, llm, answers, method.fields)
        rows, rejections = _sift(method, sources, answers, quality)
        log.info("%s: %s", method.stage, outcome(len(rows), rejections))
    write_outputs(method.table, rows, rejections, answers.usage().metrics(llm))
    answers.save()


def _sift(
    method: Method[Source], sources: Sequence[Source], answers: Answers, quality: Quality
) -> tuple[list[Row], list[Rejection]]:
    novelty = Novelty.of_tables(paths.CHECKED, quality, *method.others)

    def to_row(source: Source, new: Generated) -> Row:
        row = method.row(source, new, quality)
        novelty.take(row, origin=method.origin(source) if method.rewrites else row["fname"])
        return row

    rows, rejections, composed = sift(sources, answers.used(), to_row, method.origin)
    if composed:
        log.info("%s: %d answers with decomposed characters, read as composed ones (NFC)", method.stage, composed)
    return rows, rejections
