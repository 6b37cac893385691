"""What the rows of a dialogue table are checked for, one by one, and what is done about what is found."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from stages.checks.odd_texts import doubtful_tags, has_preamble, misspelt_tags, unsigned_names
from stages.core.errors import UserError
from stages.core.params import Check
from stages.corpus.dialogue import SPEAKER, speakers
from stages.corpus.extra_rows import is_extra, where_to_mend
from stages.corpus.hangul import hangul_share, letters
from stages.corpus.personal_data import mask_personal_data
from stages.corpus.tables import Row

HELD_OUT = ("dev", "test")
"""The tables whose rows are never removed; the others, train and the sources of `data.extra`, are learned from."""


@dataclass(frozen=True)
class Finding:
    """What a check found in a row, in a few words, which never hold personal data.

    Attributes:
        table: train, dev or test, or the source of a row of `data.extra`.
    """

    fname: str
    table: str
    check: str
    detail: str


@dataclass
class Findings:
    """All that is found in the tables of `folder`: what rows are removed for, and what is only told of them."""

    settings: Check
    folder: Path
    removed: list[Finding] = field(default_factory=list)
    warned: list[Finding] = field(default_factory=list)

    def action(self, check: str) -> str:
        """What is to be done about the findings of a check: the value of its parameter."""
        return str(getattr(self.settings, check))

    def place(self, table: str) -> str:
        """What a message calls a table: its file, or the source of rows that share one."""
        return table if is_extra(table) else f"{self.folder / table}.csv"

    def tell(self, finding: Finding) -> bool:
        """Take note of a finding, and say whether its row is removed; a row of dev or test never is.

        Raises:
            UserError: the check's parameter says that the run stops.
        """
        action = self.action(finding.check)
        if action == "stop":
            other = "mask" if finding.check == "personal_data" else "remove"
            raise UserError(
                f"{self.place(finding.table)}: row {finding.fname}: {finding.detail}; mend the row in "
                f"{where_to_mend(finding.table)}, or set check.{finding.check} to warn or {other}"
            )
        removed = action == "remove" and finding.table not in HELD_OUT
        (self.removed if removed else self.warned).append(finding)
        return removed


def check_rows(rows: Iterable[Row], table: str, findings: Findings, skipped: Collection[str] = ()) -> Iterator[Row]:
    """Check rows one by one, and yield those that stay, masked if `check.personal_data` says so.

    Args:
        skipped: checks that are not made.
    """
    checks = [check for check in ROW_CHECKS if findings.action(check) != "ignore" and check not in skipped]
    for row in rows:
        row = _check_personal_data(row, table, findings)
        problems = ((check, "; ".join(ROW_CHECKS[check](row, findings.settings))) for check in checks)
        # The first finding that removes a row is the last that is told of it.
        if not any(findings.tell(Finding(row["fname"], table, *problem)) for problem in problems if problem[1]):
            yield row


def _check_personal_data(row: Row, table: str, findings: Findings) -> Row:
    action = findings.action("personal_data")
    if action == "ignore":
        return row
    masked = {column: mask_personal_data(text) for column, text in row.items() if column not in ("fname", "source")}
    # Like cleaning, masking leaves alone the references that dev and test are scored against.
    changed = [column for column in masked if action == "mask" and (table not in HELD_OUT or column == "dialogue")]
    details = []
    for column, (_, kinds) in masked.items():
        if kinds:
            listed = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
            details.append(f"{column} has {listed}{', masked' if column in changed else ''}")
    if details:
        findings.tell(Finding(row["fname"], table, "personal_data", "; ".join(details)))
    return row | {column: masked[column][0] for column in changed}


def _empty_summary(row: Row, settings: Check) -> Iterator[str]:
    for column, text in _summaries(row):
        if not letters(text):
            yield f"{column} has no letters"


def _long_summary(row: Row, settings: Check) -> Iterator[str]:
    for column, text in _summaries(row):
        if len(text) > len(row["dialogue"]):
            yield f"{column} has {len(text)} characters, its dialogue {len(row['dialogue'])}"


def _unknown_speaker(row: Row, settings: Check) -> Iterator[str]:
    speaking = speakers(row["dialogue"])
    for column, text in _summaries(row):
        silent = [tag for tag in dict.fromkeys(SPEAKER.findall(text)) if tag not in speaking]
        if silent:
            yield f"{column} names {', '.join(silent)}, who does not speak"


def _not_korean(row: Row, settings: Check) -> Iterator[str]:
    for column, text in (("dialogue", row["dialogue"]), *_summaries(row)):
        share = hangul_share(text)
        if share < settings.min_korean_share and letters(text):
            yield f"{column} has {share:.2f} Hangul among its letters, below check.min_korean_share"


def _first_speaker(row: Row, settings: Check) -> Iterator[str]:
    if not row["dialogue"].startswith("#Person1#:"):
        yield "dialogue does not start with #Person1#:"


def _doubtful_tag(row: Row, settings: Check) -> Iterator[str]:
    found = list(doubtful_tags(row["dialogue"]))
    if found:
        yield f"dialogue, {found[0]}" + (f", and {len(found) - 1} more" if len(found) > 1 else "")


def _unsigned_speaker(row: Row, settings: Check) -> Iterator[str]:
    for column, text in _summaries(row):
        names = unsigned_names(text)
        if names:
            yield f"{column} names {', '.join(names)} without signs"
        misspelt = misspelt_tags(text)
        if misspelt:
            yield f"{column} has {', '.join(misspelt)}, which may be a misspelt tag"


def _preamble(row: Row, settings: Check) -> Iterator[str]:
    for column, text in (("dialogue", row["dialogue"]), *_summaries(row)):
        if has_preamble(text):
            yield f"{column} begins with words about the text"


def _summaries(row: Row) -> list[tuple[str, str]]:
    """The summaries of a row, each after its column; a test row may have none."""
    return [(column, text) for column, text in row.items() if column.startswith("summary") and text.strip()]


ROW_CHECKS: dict[str, Callable[[Row, Check], Iterator[str]]] = {
    "empty_summary": _empty_summary,
    "long_summary": _long_summary,
    "unknown_speaker": _unknown_speaker,
    "not_korean": _not_korean,
    "first_speaker": _first_speaker,
    "doubtful_tag": _doubtful_tag,
    "unsigned_speaker": _unsigned_speaker,
    "preamble": _preamble,
}
"""The checks of a row alone, in the order in which they are made: each yields what it finds, by column."""
