"""Put original and augmented rows together, shuffled by seed, each with its `source`.

From data/clean/train.csv and data/augmented/*.csv to data/merged/train.csv; metrics/data/augmentation.json
counts the rows of each source.
"""

from __future__ import annotations

import logging
from pathlib import Path

import pandas as pd

from stages.common.errors import UserError, run_stage
from stages.common.files import write_json
from stages.common.params import load_params
from stages.common.tables import AUGMENTED_COLUMNS, read_table, write_table

log = logging.getLogger(__name__)

TABLES = {
    "original": Path("data/clean/train.csv"),
    "paraphrase": Path("data/augmented/paraphrase.csv"),
    "speaker_swap": Path("data/augmented/speaker_swap.csv"),
    "synthetic": Path("data/augmented/synthetic.csv"),
}
MERGED = Path("data/merged/train.csv")
METRICS = Path("metrics/data/augmentation.json")


def check_fnames(tables: dict[str, pd.DataFrame]) -> None:
    """Raise UserError where two tables, named by their source, share an fname."""
    owners: dict[str, str] = {}
    for source, table in tables.items():
        for fname in table["fname"]:
            owner = owners.setdefault(fname, source)
            if owner != source:
                raise UserError(
                    f"{TABLES[source]}: row {fname}, column fname: {TABLES[owner]} has it too; "
                    "give each row a name of its own"
                )


def merge(tables: dict[str, pd.DataFrame], seed: int) -> pd.DataFrame:
    """All rows, each with its source, in an order that depends on the seed alone."""
    labelled = [
        table.assign(source=source).reindex(columns=AUGMENTED_COLUMNS, fill_value="")
        for source, table in tables.items()
    ]
    return pd.concat(labelled).sample(frac=1, random_state=seed, ignore_index=True)


def main() -> None:
    params = load_params()
    tables = {source: read_table(path, "train", allow_empty=source != "original") for source, path in TABLES.items()}
    check_fnames(tables)
    write_table(merge(tables, params.seed), MERGED)

    counts = {source: len(table) for source, table in tables.items()}
    log.info("%s: %s", MERGED, ", ".join(f"{count} {source}" for source, count in counts.items()))
    write_json(METRICS, counts | {"total": sum(counts.values())})


if __name__ == "__main__":
    run_stage(main)
