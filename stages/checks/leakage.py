"""Rows to learn from repeat no earlier one, and are of no dialogue of dev or test, which may be alike, and are told."""

from __future__ import annotations

import hashlib

from stages.checks.row_checks import HELD_OUT, Finding, Findings
from stages.corpus.extra_rows import dialogue_id, is_extra
from stages.corpus.near_duplicates import Index
from stages.corpus.tables import Row


class EarlierRows:
    """The rows that have passed: the dialogues of dev and test and their ids, and a digest of each row learned from."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._held_out = Index((), findings.settings.near_duplicate_threshold)
        self._names: list[str] = []
        self._ids: dict[str, str] = {}
        self._first: dict[bytes, str] = {}

    def removes(self, row: Row, table: str) -> bool:
        """Compare a row with the earlier ones, and say whether it is removed; those of dev and test come first."""
        if table not in HELD_OUT:
            return self._repeats(row, table) or self._leaks(row, table)
        self._is_like(row, table, "near_duplicates")
        self._held_out.add(row["dialogue"])
        self._names.append(f"{table} row {row['fname']}")
        self._ids.setdefault(dialogue_id(row["fname"]), self._names[-1])
        return False

    def _repeats(self, row: Row, table: str) -> bool:
        check = "exact_duplicates"
        if self._findings.action(check) == "ignore":
            return False
        digest = hashlib.blake2b(f"{row['dialogue']}\0{row['summary']}".encode(), digest_size=16).digest()
        name = f"{table} row {row['fname']}"
        first = self._first.setdefault(digest, name)
        detail = f"dialogue and summary are those of {first}"
        return first != name and self._findings.tell(Finding(row["fname"], table, check, detail))

    def _leaks(self, row: Row, table: str) -> bool:
        """A row of a further table may be a dialogue of dev or test in another language, which its id betrays."""
        name = self._ids.get(dialogue_id(row["fname"], table)) if is_extra(table) else None
        if name is None or self._findings.action("leakage") == "ignore":
            return self._is_like(row, table, "leakage")
        detail = f"its own fname is that of {name}: the same dialogue, maybe in another language"
        return self._findings.tell(Finding(row["fname"], table, "leakage", detail))

    def _is_like(self, row: Row, table: str, check: str) -> bool:
        if self._findings.action(check) == "ignore":
            return False
        found = self._held_out.closest(row["dialogue"])
        return found is not None and self._findings.tell(
            Finding(row["fname"], table, check, alike(self._names[found[0]], found[1]))
        )


def alike(name: str, similarity: float) -> str:
    """What is told of a row whose dialogue is like that of the row `name`."""
    return f"dialogue is like that of {name}, similarity {similarity:.2f}"
