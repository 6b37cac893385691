"""Read and check the user's tables, and keep them in one form: no text is changed.

From `data.source` (train.csv, dev.csv, test.csv) to data/ingested, with the columns fname, dialogue, summary
(or summary1, summary2, ...) and topic; metrics/data/ingest.json says what came in.
"""

from __future__ import annotations

import logging
from collections import Counter
from pathlib import Path
from typing import get_args

import pandas as pd

from stages.common.errors import run_stage
from stages.common.files import replacing, write_json
from stages.common.params import load_params
from stages.common.tables import Split, read_table, reference_columns, references, write_table

log = logging.getLogger(__name__)

INGESTED = Path("data/ingested")
METRICS = Path("metrics/data/ingest.json")


def canonical(table: pd.DataFrame) -> pd.DataFrame:
    """The columns that later stages read; a `source` of the user's own would be taken for that of merging."""
    topic = ["topic"] if "topic" in table else []
    return table[["fname", "dialogue", *reference_columns(table), *topic]]


def repeated_fnames(tables: dict[Split, pd.DataFrame]) -> list[str]:
    """The fnames that occur in more than one table, in the order of the tables."""
    counts = Counter(fname for table in tables.values() for fname in table["fname"])
    return [fname for fname, count in counts.items() if count > 1]


def describe(read: pd.DataFrame, kept: pd.DataFrame) -> dict[str, int | float]:
    """Rows, mean lengths in characters (none where there are no references), and columns left out."""
    summaries = [summary for row in references(kept) for summary in row]
    facts: dict[str, int | float] = {
        "rows_read": len(read),
        "rows_kept": len(kept),
        "columns_ignored": len(read.attrs["ignored_columns"]) + len(read.columns) - len(kept.columns),
        "dialogue_characters": mean_length(list(kept["dialogue"])),
    }
    if summaries:
        facts["summary_characters"] = mean_length(summaries)
    return facts


def mean_length(texts: list[str]) -> float:
    """The mean number of characters, to one decimal."""
    return round(sum(map(len, texts)) / len(texts), 1)


def main() -> None:
    params = load_params()
    source = Path(params.data.source)
    splits: tuple[Split, ...] = get_args(Split)
    read = {split: read_table(source / f"{split}.csv", split) for split in splits}
    kept = {split: canonical(table[: params.data.limit or None]) for split, table in read.items()}

    for split in splits:
        log.info("%s: %d of %d rows kept", source / f"{split}.csv", len(kept[split]), len(read[split]))
        if "source" in read[split]:
            log.info("%s: columns ignored (1): source, which merging writes", source / f"{split}.csv")
    repeated = repeated_fnames(kept)
    if repeated:
        log.info("%s: %d fnames occur in more than one table, first %s", source, len(repeated), repeated[0])

    with replacing(INGESTED) as folder:
        folder.mkdir()
        for split, table in kept.items():
            write_table(table, folder / f"{split}.csv")
    write_json(METRICS, {split: describe(read[split], kept[split]) for split in splits})


if __name__ == "__main__":
    run_stage(main)
