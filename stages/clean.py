"""Remove noise and typos from the tables, never touching masks and speaker tags.

From data/ingested to data/clean. Dialogues are cleaned in every table, summaries in those of training rows only: those
of dev and test are what scores are measured against, and nothing but their speaker tags is mended.
metrics/data/cleaning.json counts what each step and rule replaced, and the typos corrected. Rows pass through in
batches, on all cores where there are many.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, get_args

from tqdm import tqdm

from stages.cleaning.batch import Tally, clean_batch
from stages.cleaning.rule import Rule
from stages.cleaning.rules import STRUCTURE, TYPO, load_rules
from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import replacing, write_json
from stages.core.parallel import available_cores, map_ordered
from stages.core.params import Clean, load_params
from stages.corpus.extra_rows import TABLE
from stages.corpus.tables import Split, open_table, writing_table

log = logging.getLogger(__name__)

SMALL = 1_000_000
"""Bytes; starting processes takes longer than cleaning a smaller table."""


def clean_table(path: Path, split: Split, target: Path, rules: Sequence[Rule], settings: Clean) -> Tally:
    """Clean the table at `path` into one at `target`.

    Raises:
        UserError: nothing is left of a dialogue or a summary.
    """
    stream = open_table(path, split, allow_empty=path.stem == TABLE)
    clean = partial(
        clean_batch,
        path=path,
        split=split,
        rules=rules,
        fix_spacing=settings.fix_spacing,
        typo_threshold=settings.typo_threshold if settings.fix_typos else None,
    )
    workers = available_cores() if path.stat().st_size > SMALL else 1
    tally = Tally()
    with (
        writing_table(target, stream.columns) as writer,
        tqdm(desc=f"clean {path.stem}", unit=" rows", disable=None, leave=False) as progress,
    ):
        for batch, done in map_ordered(clean, stream.batches(), workers):
            writer.write(batch)
            tally.add(done)
            progress.update(done.rows)
    return tally


def describe(tally: Tally, rules: Sequence[Rule]) -> dict[str, Any]:
    """Rows in all, rows changed, and for each step, each rule and the typos what was replaced, and in how many rows."""

    def counts(name: str) -> dict[str, int]:
        return {"rows": tally.touched[name], "replacements": tally.replacements[name]}

    ids = (*STRUCTURE, *(rule.id for rule in rules))
    return {
        "rows": tally.rows,
        "changed": tally.changed,
        "rules": {name: counts(name) for name in ids},
        "typos": counts(TYPO),
    }


def main() -> None:
    settings = load_params().clean
    rules = load_rules(Path(settings.rules))
    tallies: dict[str, Tally] = {}
    with replacing(paths.CLEAN) as folder:
        folder.mkdir()
        for split in get_args(Split):
            name = f"{split}.csv"
            tallies[split] = clean_table(paths.INGESTED / name, split, folder / name, rules, settings)
        extra = clean_table(paths.INGESTED / f"{TABLE}.csv", "train", folder / f"{TABLE}.csv", rules, settings)
    if extra.rows:
        tallies[TABLE] = extra
    write_json(paths.CLEANING_METRICS, {name: describe(tally, rules) for name, tally in tallies.items()})
    counts = ", ".join(f"{name} {tally.changed} of {tally.rows}" for name, tally in tallies.items())
    log.info(
        "clean: %d rules from %s; rows changed: %s; see %s", len(rules), settings.rules, counts, paths.CLEANING_METRICS
    )


if __name__ == "__main__":
    run_stage(main)
