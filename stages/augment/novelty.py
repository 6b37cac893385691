"""A generated dialogue is new: it repeats no training dialogue, no other generated one, and none of dev or test."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

from stages.augment.quality_gate import Rejected
from stages.core.params import Quality
from stages.corpus.near_duplicates import Index
from stages.corpus.tables import Row, Split, open_table


class Novelty:
    """The dialogues that a new one is compared with, by the similarity of near_duplicates.py."""

    def __init__(self, training: Iterable[Row], held_out: Iterable[Row], quality: Quality) -> None:
        """Index rows to train on, and rows of dev and test."""
        self._held_out = Index((row["dialogue"] for row in held_out), quality.max_held_out_similarity)
        self._known = Index((), quality.max_similarity)
        self._fnames: list[str] = []
        for row in training:
            self._add(row)

    @classmethod
    def of_tables(cls, folder: Path, quality: Quality, *generated: Path) -> Novelty:
        """Index the tables train, dev and test of a folder, and tables of rows that are generated already."""
        training = chain.from_iterable(_rows(path, "train") for path in (folder / "train.csv", *generated))
        held_out = chain(_rows(folder / "dev.csv", "dev"), _rows(folder / "test.csv", "test"))
        return cls(training, held_out, quality)

    def take(self, row: Row, origin: str) -> None:
        """Compare a row with all others, and index it too; `origin` is the fname of the row that it rewrites.

        Raises:
            Rejected: its dialogue is too close to another one.
        """
        if self._held_out.closest(row["dialogue"]):
            raise Rejected("close to a dev or test row")
        found = self._known.closest(row["dialogue"])
        if found:
            raise Rejected("hardly rewritten" if self._fnames[found[0]] == origin else "close to another row")
        self._add(row)

    def _add(self, row: Row) -> None:
        self._known.add(row["dialogue"])
        self._fnames.append(row["fname"])


def _rows(path: Path, split: Split) -> Iterator[Row]:
    for batch in open_table(path, split, allow_empty=True).batches():
        yield from batch[["fname", "dialogue"]].to_dict("records")
