"""Read and check the user's tables, and keep them in one form: no text is changed but to composed Unicode (NFC).

From `data.source` (train.csv, dev.csv, test.csv) to data/ingested, with the columns fname, dialogue, summary
(or summary1, summary2, ...) and topic; metrics/data/ingest.json says what came in and, where a file
had what spreadsheets leave behind, how often which of it was mended. Rows of the further training tables
(`data.extra`) go into one table, extra.csv, each with its `source`. Rows pass through in batches, so that a table may
be larger than memory.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import pandas as pd

from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import replacing, write_json
from stages.core.params import load_params
from stages.corpus.extra_rows import TABLE, labelled, source_of
from stages.corpus.tables import (
    AUGMENTED_COLUMNS,
    Split,
    TableStream,
    TableWriter,
    open_table,
    references,
    writing_table,
)

log = logging.getLogger(__name__)


@dataclass
class Mean:
    """The mean length of texts that come one by one."""

    texts: int = 0
    characters: int = 0

    def add(self, texts: Sequence[str]) -> None:
        self.texts += len(texts)
        self.characters += sum(map(len, texts))

    def rounded(self) -> float:
        """The mean number of characters, to one decimal."""
        return round(self.characters / self.texts, 1)


def canonical_columns(stream: TableStream) -> list[str]:
    """The columns that later stages read; a `source` of the user's own would be taken for that of merging."""
    return [name for name in stream.columns if name != "source"]


def repeats(frame: pd.DataFrame, above: Sequence[TableStream]) -> list[str]:
    """The fnames that one of the tables above has; one that two of them share has been told before."""
    return [fname for fname in frame["fname"] if sum(table.has(fname) for table in above) == 1]


def ingest(
    stream: TableStream, limit: int, write: Callable[[pd.DataFrame], None], above: Sequence[TableStream] = ()
) -> tuple[dict[str, Any], list[str]]:
    """Write the first `limit` rows of a table, or all where that is 0.

    Returns:
        Rows, mean lengths in characters (none where there are no references), columns left out, and what was mended, if
        anything; and the fnames that occur in a table above too.
    """
    read = kept = 0
    dialogues, summaries = Mean(), Mean()
    repeated: list[str] = []
    for batch in stream.batches():
        read += len(batch)
        repeated += repeats(batch, above)
        batch = batch.head(limit - kept) if limit else batch
        kept += len(batch)
        dialogues.add(list(batch["dialogue"]))
        summaries.add([summary for row in references(batch) for summary in row])
        write(batch)
    facts: dict[str, Any] = {
        "rows_read": read,
        "rows_kept": kept,
        "columns_ignored": len(stream.header) - len(canonical_columns(stream)),
        "dialogue_characters": dialogues.rounded(),
    }
    if summaries.texts:
        facts["summary_characters"] = summaries.rounded()
    if stream.mended:
        facts["mended"] = stream.mended
    return facts, repeated


def ingest_extra(stream: TableStream, limit: int, writer: TableWriter) -> tuple[str, dict[str, Any]]:
    """Add the rows of a further training table to the one that holds them all; its source, and what `ingest` gives."""
    source = source_of(stream.path)
    facts, _ = ingest(stream, limit, lambda batch: writer.write(labelled(batch, source)))
    return source, facts


def main() -> None:
    params = load_params()
    source = Path(params.data.source)
    streams: list[TableStream] = []
    facts: dict[str, dict[str, Any]] = {}
    repeated: list[str] = []
    with replacing(paths.INGESTED) as folder:
        folder.mkdir()
        for split in get_args(Split):
            path = source / f"{split}.csv"
            stream = open_table(path, split)
            with writing_table(folder / path.name, canonical_columns(stream)) as writer:
                facts[split], shared = ingest(stream, params.data.limit, writer.write, streams)
            streams.append(stream)
            repeated += shared
        with writing_table(folder / f"{TABLE}.csv", AUGMENTED_COLUMNS) as writer:
            for table in params.data.extra:
                streams.append(open_table(Path(table.path), "train"))
                label, counts = ingest_extra(streams[-1], params.data.limit, writer)
                facts[label] = counts
    for stream, counts in zip(streams, facts.values(), strict=True):
        log.info("%s: %d of %d rows kept", stream.path, counts["rows_kept"], counts["rows_read"])
        if "source" in stream.columns:
            log.info("%s: columns ignored (1): source, which merging writes", stream.path)
    if repeated:
        log.info("%s: %d fnames occur in more than one table, first %s", source, len(repeated), repeated[0])
    write_json(paths.INGEST_METRICS, facts)


if __name__ == "__main__":
    run_stage(main)
