"""Check the clean tables: duplicates, leaks from dev and test, odd rows, personal data.

From data/clean to data/checked. What becomes of a finding is a parameter, `check.<name>`; train's rows may be
removed, those of dev and test never are. Beside the tables, removed.csv and warnings.csv say what was found in
which row, and metrics/data/checks.json counts it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

import pandas as pd
from tqdm import tqdm

from stages.checks.leakage import EarlierRows, alike
from stages.checks.row_checks import ROW_CHECKS, Finding, Findings, check_rows
from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import replacing, write_json
from stages.core.params import load_params
from stages.corpus.near_duplicates import similar_pairs
from stages.corpus.tables import Split, open_table, write_table, writing_table

log = logging.getLogger(__name__)

TRAIN_CHECKS = ("exact_duplicates", "leakage")
CHECKS = (*TRAIN_CHECKS, "personal_data", *ROW_CHECKS, "near_duplicates")
FINDING_COLUMNS = ["fname", "table", "check", "detail"]


@dataclass(frozen=True)
class Dialogues:
    """The dialogues of a table, read anew each time that they are iterated."""

    path: Path

    def __iter__(self) -> Iterator[str]:
        for batch in open_table(self.path, "train").batches():
            yield from batch["dialogue"]


def check_table(table: Split, target: Path, earlier: EarlierRows, findings: Findings) -> tuple[int, list[str]]:
    """Check the rows of a table against earlier ones, and one by one, and write those that stay.

    Returns:
        The number of rows in all, and the fnames of those that stay.
    """
    stream = open_table(paths.CLEAN / f"{table}.csv", table)
    count = 0
    fnames: list[str] = []
    with writing_table(target, stream.columns) as writer:
        for batch in tqdm(stream.batches(), desc=f"check {table}", unit=" batches", disable=None, leave=False):
            count += len(batch)
            rows = (row for row in batch.to_dict("records") if not earlier.removes(row, table))
            kept = pd.DataFrame(list(check_rows(rows, table, findings)), columns=stream.columns, dtype="str")
            fnames.extend(kept["fname"])
            writer.write(kept)
    if not fnames:
        check = findings.removed[-1].check
        raise UserError(
            f"{paths.CLEAN / table}.csv: the checks remove every row, the last by check.{check}; set it to warn"
        )
    return count, fnames


def check_similar(path: Path, fnames: Sequence[str], findings: Findings) -> None:
    """Find the rows of train, at `path`, that are like an earlier one, and take them out if they are to go."""
    removed: set[str] = set()
    for earlier, later, similarity in similar_pairs(Dialogues(path), findings.settings.near_duplicate_threshold):
        detail = alike(f"train row {fnames[earlier]}", similarity)
        if findings.tell(Finding(fnames[later], "train", "near_duplicates", detail)):
            removed.add(fnames[later])
    if removed:
        stream = open_table(path, "train")
        with writing_table(path, stream.columns) as writer:
            for batch in stream.batches():
                writer.write(batch[~batch["fname"].isin(removed)])


def summarize(rows: dict[Split, int], findings: Findings) -> dict[str, dict[str, int]]:
    """Log which checks found something; of each table, count all rows, those kept, and each check's findings."""
    removed = Counter((finding.table, finding.check) for finding in findings.removed)
    found = removed + Counter((finding.table, finding.check) for finding in findings.warned)
    report: dict[str, dict[str, int]] = {}
    for table in get_args(Split):
        checks = [check for check in CHECKS if table == "train" or check not in TRAIN_CHECKS]
        checks = [check for check in checks if findings.action(check) != "ignore"]
        for check in checks:
            if found[table, check]:
                kept = table != "train" and findings.action(check) == "remove"
                log.info(
                    "%s.csv: check.%s: %d of %d rows, %d removed%s",
                    paths.CLEAN / table,
                    check,
                    found[table, check],
                    rows[table],
                    removed[table, check],
                    "; rows of dev and test never are" if kept else "",
                )
        gone = sum(count for (place, _), count in removed.items() if place == table)
        report[table] = {"rows": rows[table], "kept": rows[table] - gone}
        report[table] |= {check: found[table, check] for check in checks}
    return report


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    rows = [[finding.fname, finding.table, finding.check, finding.detail] for finding in findings]
    write_table(pd.DataFrame(rows, columns=FINDING_COLUMNS, dtype="str"), path)


def main() -> None:
    params = load_params()
    findings = Findings(params.check, paths.CLEAN)
    earlier = EarlierRows(findings)
    rows: dict[Split, int] = {}
    with replacing(paths.CHECKED) as folder:
        folder.mkdir()
        for table in ("dev", "test", "train"):
            rows[table], fnames = check_table(table, folder / f"{table}.csv", earlier, findings)
        if params.check.near_duplicates != "ignore":
            check_similar(folder / "train.csv", fnames, findings)
        write_findings(findings.removed, folder / "removed.csv")
        write_findings(findings.warned, folder / "warnings.csv")
    write_json(paths.CHECK_METRICS, summarize(rows, findings))
    log.info(
        "check: %d rows removed, %d warnings; see %s/removed.csv and warnings.csv",
        len(findings.removed),
        len(findings.warned),
        paths.CHECKED,
    )


if __name__ == "__main__":
    run_stage(main)
