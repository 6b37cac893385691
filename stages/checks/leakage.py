"""A row of train repeats no earlier one and is like none of dev or test; rows of dev and test may be, and are told."""

from __future__ import annotations

import hashlib

from stages.checks.row_checks import Finding, Findings
from stages.corpus.near_duplicates import Index
from stages.corpus.tables import Row, Split


class EarlierRows:
    """The rows that have passed: the dialogues of dev and test, and a digest of each row of train."""

    def __init__(self, findings: Findings) -> None:
        self._findings = findings
        self._held_out = Index((), findings.settings.near_duplicate_threshold)
        self._names: list[str] = []
        self._fnames: dict[bytes, str] = {}

    def removes(self, row: Row, table: Split) -> bool:
        """Compare a row with the earlier ones, and say whether it is removed; those of dev and test come first."""
        if table == "train":
            return self._repeats(row) or self._is_like(row, table, "leakage")
        self._is_like(row, table, "near_duplicates")
        self._held_out.add(row["dialogue"])
        self._names.append(f"{table} row {row['fname']}")
        return False

    def _repeats(self, row: Row) -> bool:
        check = "exact_duplicates"
        if self._findings.action(check) == "ignore":
            return False
        digest = hashlib.blake2b(f"{row['dialogue']}\0{row['summary']}".encode(), digest_size=16).digest()
        first = self._fnames.setdefault(digest, row["fname"])
        detail = f"dialogue and summary are those of train row {first}"
        return first != row["fname"] and self._findings.tell(Finding(row["fname"], "train", check, detail))

    def _is_like(self, row: Row, table: Split, check: str) -> bool:
        if self._findings.action(check) == "ignore":
            return False
        found = self._held_out.closest(row["dialogue"])
        return found is not None and self._findings.tell(
            Finding(row["fname"], table, check, alike(self._names[found[0]], found[1]))
        )


def alike(name: str, similarity: float) -> str:
    """What is told of a row whose dialogue is like that of the row `name`."""
    return f"dialogue is like that of {name}, similarity {similarity:.2f}"
