"""Remove noise from the tables, never touching masks and speaker tags.

From data/ingested to data/clean. Dialogues are cleaned in every table, summaries in train only: those of dev
and test are what scores are measured against. metrics/data/cleaning.json counts what each step and rule
replaced.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import pandas as pd
from tqdm import tqdm

from stages.common.cleaning import STRUCTURE, Rule, clean_dialogue, clean_summary, load_rules
from stages.common.dialogue import parse_turns
from stages.common.errors import UserError, run_stage
from stages.common.files import replacing, write_json
from stages.common.params import load_params
from stages.common.tables import Split, read_table, write_table

log = logging.getLogger(__name__)

INGESTED = Path("data/ingested")
CLEAN = Path("data/clean")
METRICS = Path("metrics/data/cleaning.json")


def clean_table(
    table: pd.DataFrame, split: Split, rules: Sequence[Rule], *, fix_spacing: bool, path: Path
) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Clean a table's dialogues and, in train, its summaries.

    Returns:
        The clean table, and what was done: rows in all, rows changed, and for each step and rule the rows in
        which it replaced something and how often it did.

    Raises:
        UserError: nothing is left of a dialogue or a summary. The message names the row of `path`.
    """
    cleaners = {"dialogue": clean_dialogue} | ({"summary": clean_summary} if split == "train" else {})
    cleaned: list[dict[str, str]] = []
    changed = 0
    rows: Counter[str] = Counter()
    replacements: Counter[str] = Counter()
    records = table[["fname", *cleaners]].to_dict("records")
    for record in tqdm(records, desc=f"clean {split}", disable=None, leave=False):
        hits: Counter[str] = Counter()
        texts = {
            name: clean(record[name], rules, fix_spacing=fix_spacing, hits=hits) for name, clean in cleaners.items()
        }
        _check_left(path, record["fname"], texts)
        cleaned.append(texts)
        changed += any(texts[name] != record[name] for name in cleaners)
        rows.update(hits.keys())
        replacements.update(hits)
    report = {
        "rows": len(table),
        "changed": changed,
        "rules": {
            name: {"rows": rows[name], "replacements": replacements[name]}
            for name in (*STRUCTURE, *(rule.id for rule in rules))
        },
    }
    return table.assign(**{name: [texts[name] for texts in cleaned] for name in cleaners}), report


def _check_left(path: Path, fname: str, texts: dict[str, str]) -> None:
    if not any(turn.text for turn in parse_turns(texts["dialogue"])):
        raise UserError(
            f"{path}: row {fname}, column dialogue: no turn is left after cleaning; in data.source's "
            "table, begin each turn with #Person1#: or #Person2#: on a line of its own"
        )
    if texts.get("summary") == "":
        raise UserError(
            f"{path}: row {fname}, column summary: nothing is left after cleaning; in data.source's "
            "table, write the summary or delete the row"
        )


def main() -> None:
    settings = load_params().clean
    rules = load_rules(Path(settings.rules))
    report: dict[str, dict[str, Any]] = {}
    with replacing(CLEAN) as folder:
        folder.mkdir()
        for split in get_args(Split):
            path = INGESTED / f"{split}.csv"
            table, report[split] = clean_table(
                read_table(path, split), split, rules, fix_spacing=settings.fix_spacing, path=path
            )
            write_table(table, folder / path.name)
    write_json(METRICS, report)
    counts = ", ".join(f"{split} {done['changed']} of {done['rows']}" for split, done in report.items())
    log.info("clean: %d rules from %s; rows changed: %s; see %s", len(rules), settings.rules, counts, METRICS)


if __name__ == "__main__":
    run_stage(main)
