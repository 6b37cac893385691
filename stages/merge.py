"""Put original and augmented rows together, shuffled by seed, each with its `source`.

From data/checked and data/augmented/*.csv to data/merged/train.csv. Of each kind of augmented rows at most
`augment.balance` times the original rows are kept, chosen by seed, and of each further training table as many rows as
`data.extra` says. Rows wait for their turn on disk, not in memory. metrics/data/augmentation.json counts the rows of
each source, those left out, and, of what a language model wrote, the answers rejected for each reason, tokens and cost;
data/augmented/rejected.csv lists those answers.
"""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd

from stages.core import paths
from stages.core.amount import count_of
from stages.core.errors import UserError, run_stage
from stages.core.files import read_json, replacing, write_json
from stages.core.params import ExtraTable, load_params
from stages.corpus.extra_rows import source_of
from stages.corpus.tables import AUGMENTED_COLUMNS, TableStream, encode_rows, open_table, writing_table

log = logging.getLogger(__name__)

TABLES = {
    "original": paths.TRAIN,
    "paraphrase": paths.PARAPHRASES,
    "speaker_swap": paths.SWAPS,
    "synthetic": paths.SYNTHETIC,
}
GENERATED = ("paraphrase", "synthetic")
"""The sources whose stages write, beside their table, rejected answers (.rejected.csv) and counts (.json)."""

Spans = np.ndarray
"""Where rows lie in a file: rows x (first byte, number of bytes)."""


def check_fnames(batch: pd.DataFrame, path: Path, above: Sequence[TableStream]) -> None:
    """Raise UserError where rows of the table at `path` share an fname with a table above."""
    for fname in batch["fname"]:
        for table in above:
            if table.has(fname):
                raise UserError(
                    f"{path}: row {fname}, column fname: {table.path} has it too; give each row a name of its own"
                )


def append(batch: pd.DataFrame, path: Path, file: BinaryIO) -> Spans:
    """Write rows of the table at `path`, which have a source, at the end of a file; say where each lies."""
    first = file.tell()
    lines = encode_rows(batch.reindex(columns=AUGMENTED_COLUMNS, fill_value=""), path)
    file.writelines(lines)
    sizes = np.array([len(line) for line in lines], dtype=np.int64)
    return np.stack([first + np.cumsum(sizes) - sizes, sizes], axis=1)


def joined(spans: Sequence[Spans]) -> Spans:
    return np.concatenate([np.empty((0, 2), dtype=np.int64), *spans])


def spool(tables: dict[str, TableStream], file: BinaryIO) -> dict[str, Spans]:
    """Write the rows of all tables, labelled with their source, one after the other; say where each lies."""
    spans: dict[str, Spans] = {}
    above: list[TableStream] = []
    for source, table in tables.items():
        batches = []
        for batch in table.batches():
            check_fnames(batch, table.path, above)
            batches.append(append(batch.assign(source=source), table.path, file))
        spans[source] = joined(batches)
        above.append(table)
    return spans


def times_taken(rows: int, amount: int | str, random: np.random.Generator) -> np.ndarray:
    """How often each of some rows is taken: a count takes each once at most, a share above 100% some more than once."""
    wanted = min(amount, rows) if isinstance(amount, int) else count_of(amount, rows)
    often, left = divmod(wanted, max(rows, 1))
    times = np.full(rows, often)
    times[random.permutation(rows)[:left]] += 1
    return times


def named(rows: pd.DataFrame, copy: int, table: TableStream, path: str) -> pd.DataFrame:
    """Rows under the names of their second copy, `<fname>.2`, their third, and so on.

    Args:
        copy: 0 is the first, which has the row's own name.
        table: has all rows.
        path: the user's table that they are of.

    Raises:
        UserError: another row has one of these names.
    """
    if not copy:
        return rows
    ending = f".{copy + 1}"
    for fname in rows["fname"]:
        if table.has(fname + ending):
            own = fname.partition(":")[2]
            raise UserError(
                f"{path}: row {own}{ending}, column fname: a copy of row {own} that data.extra asks for is named so; "
                "give the row another name, or set rows to 100%"
            )
    return rows.assign(fname=rows["fname"] + ending)


def spool_extra(
    tables: Mapping[str, ExtraTable], above: Sequence[TableStream], file: BinaryIO, random: np.random.Generator
) -> dict[str, Spans]:
    """Write the rows of the further training tables as often as they are taken; say where those of each source lie."""
    counts = Counter[str]()
    every = open_table(paths.EXTRA, "train", allow_empty=True)
    for batch in every.batches():
        counts.update(batch["source"])
    times = {source: times_taken(counts[source], table.rows, random) for source, table in tables.items()}
    copies = {source: [list[Spans]() for _ in range(each.max(initial=0))] for source, each in times.items()}
    for batch in open_table(paths.EXTRA, "train", allow_empty=True).batches():
        check_fnames(batch, paths.EXTRA, above)
        for source, rows in batch.groupby("source", sort=False):
            often, times[source] = np.split(times[source], [len(rows)])
            for copy, spans in enumerate(copies[source]):
                taken = rows[often > copy]
                spans.append(append(named(taken, copy, every, tables[source].path), paths.EXTRA, file))
    return {source: joined([batch for spans in each for batch in spans]) for source, each in copies.items()}


def balance(spans: dict[str, Spans], ratios: dict[str, float], random: np.random.Generator) -> dict[str, Spans]:
    """All original rows, and of each other source at most its ratio of them, chosen at random."""
    originals = len(spans["original"])
    kept = dict(spans)
    for source, ratio in ratios.items():
        most = int(Decimal(str(ratio)) * originals)  # exact: 0.29 of 100 rows are 29
        rows = random.permutation(len(spans[source]))[:most]
        kept[source] = spans[source][np.sort(rows)]
    return kept


def write_shuffled(file: BinaryIO, spans: Sequence[Spans], target: Path, random: np.random.Generator) -> None:
    """Write the table of the rows at `spans` in random order."""
    rows = random.permutation(np.concatenate(spans))
    with writing_table(target, AUGMENTED_COLUMNS) as writer:
        writer.write_encoded(os.pread(file.fileno(), size, first) for first, size in rows)


def join_files(paths: Sequence[Path], target: Path) -> None:
    """Write tables that have the same header as one."""
    with replacing(target) as temporary, temporary.open("wb") as joined:
        for number, path in enumerate(paths):
            with path.open("rb") as file:
                header = file.readline()
                joined.write(b"" if number else header)
                shutil.copyfileobj(file, joined)


def main() -> None:
    params = load_params()
    random = np.random.default_rng(params.seed)
    tables = {source: open_table(path, "train", allow_empty=source != "original") for source, path in TABLES.items()}
    with tempfile.TemporaryFile(dir=paths.MERGED.parents[1]) as file:
        spans = spool(tables, file)
        kept = balance(spans, params.augment.balance.model_dump(), random)
        extra = {source_of(Path(table.path)): table for table in params.data.extra}
        kept |= spool_extra(extra, list(tables.values()), file, random)
        file.flush()
        write_shuffled(file, list(kept.values()), paths.MERGED, random)

    counts = {source: len(rows) for source, rows in kept.items()}
    left_out = {source: len(spans[source]) - counts[source] for source in params.augment.balance.model_dump()}
    log.info("%s: %s", paths.MERGED, ", ".join(f"{count} {source}" for source, count in counts.items()))
    for source, count in left_out.items():
        if count:
            log.info("%s: %d rows left out by augment.balance.%s", TABLES[source], count, source)
    join_files([TABLES[source].with_suffix(".rejected.csv") for source in GENERATED], paths.REJECTED)
    reports = {source: read_json(TABLES[source].with_suffix(".json")) for source in GENERATED}
    generation = {name: {source: reports[source][name] for source in GENERATED} for name in ("rejected", "llm")}
    write_json(paths.AUGMENTATION_METRICS, counts | {"left_out": left_out, "total": sum(counts.values())} | generation)


if __name__ == "__main__":
    run_stage(main)
