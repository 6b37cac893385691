"""Clean a batch of a table's rows, and count what was done."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import pandas as pd

from stages.cleaning.rule import Rule
from stages.cleaning.rules import TYPO, clean_dialogue, clean_summary, mend_tags
from stages.cleaning.speaker_tags import highest_speaker
from stages.core.errors import UserError
from stages.corpus.dialogue import parse_turns
from stages.corpus.extra_rows import where_to_mend
from stages.corpus.tables import Split, reference_columns


@dataclass
class Tally:
    """What cleaning did to rows."""

    rows: int = 0
    changed: int = 0
    """Rows of which some text changed."""
    touched: Counter[str] = field(default_factory=Counter)
    """Rows in which a step or rule replaced something, by its id."""
    replacements: Counter[str] = field(default_factory=Counter)
    """How often it did."""

    def add(self, other: Tally) -> None:
        self.rows += other.rows
        self.changed += other.changed
        self.touched += other.touched
        self.replacements += other.replacements


def clean_batch(
    batch: pd.DataFrame,
    *,
    path: Path,
    split: Split,
    rules: Sequence[Rule],
    fix_spacing: bool,
    typo_threshold: float | None,
) -> tuple[pd.DataFrame, Tally]:
    """Clean the dialogues of some rows and, in train, their summaries; of other references mend the tags alone.

    Args:
        path: the table that the rows are from, for the error.
        typo_threshold: the least confidence with which a typo is corrected; None corrects none.

    Raises:
        UserError: nothing is left of a dialogue or a summary. The message names the row of `path`.
    """
    hits: list[Counter[str]] = [Counter() for _ in range(len(batch))]
    clean = partial(clean_dialogue, rules=rules, fix_spacing=fix_spacing)
    texts = {"dialogue": [clean(text, hits=found) for text, found in zip(batch["dialogue"], hits, strict=True)]}
    if typo_threshold is not None:
        texts["dialogue"] = _without_typos(texts["dialogue"], typo_threshold, clean, hits)
    highest = [highest_speaker(dialogue) for dialogue in texts["dialogue"]]
    if split == "train":
        clean = partial(clean_summary, rules=rules, fix_spacing=fix_spacing)
        texts["summary"] = [
            clean(text, highest=most, hits=found)
            for text, most, found in zip(batch["summary"], highest, hits, strict=True)
        ]
        if typo_threshold is not None:  # all names are mended
            texts["summary"] = _without_typos(texts["summary"], typo_threshold, partial(clean, highest=0), hits)
    else:  # scores are measured against these, as they are but for the names that dialogues have
        for name in reference_columns(batch):
            texts[name] = [
                mend_tags(text, found, highest=most)
                for text, most, found in zip(batch[name], highest, hits, strict=True)
            ]
    cleaned = batch.assign(**texts)
    columns = ["fname", "dialogue", *(["summary"] if split == "train" else [])]
    for row in cleaned[columns].to_dict("records"):
        _check_left(path, row)
    changed = int((cleaned != batch).any(axis="columns").sum())
    tally = Tally(len(batch), changed)
    for found in hits:
        tally.touched.update(found.keys())
        tally.replacements.update(found)
    return cleaned, tally


def _without_typos(
    texts: list[str], threshold: float, clean: Callable[[str], str], hits: Sequence[Counter[str]]
) -> list[str]:
    from stages.cleaning.typo_pass import fix_typos  # loads a language model, which not every run needs

    corrections = fix_typos(texts, threshold, clean)
    for found, (_, count) in zip(hits, corrections, strict=True):
        found.update({TYPO: count} if count else {})
    return [text for text, _ in corrections]


def _check_left(path: Path, row: dict[str, str]) -> None:
    if not any(turn.text for turn in parse_turns(row["dialogue"])):
        raise UserError(
            f"{path}: row {row['fname']}, column dialogue: no turn is left after cleaning; in "
            f"{where_to_mend(path.stem)}, begin each turn with #Person1#: or #Person2#: on a line of its own"
        )
    if row.get("summary") == "":
        raise UserError(
            f"{path}: row {row['fname']}, column summary: nothing is left after cleaning; in "
            f"{where_to_mend(path.stem)}, write the summary or delete the row"
        )
