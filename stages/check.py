"""Check the clean tables: duplicates, leaks from dev and test, odd rows, personal data.

From data/clean to data/checked. What becomes of a finding is a parameter, `check.<name>`; rows of train and of further
training tables may be removed, those of dev and test never are. Beside the tables, removed.csv and warnings.csv say
what was found in which row, and metrics/data/checks.json counts it.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import pandas as pd
from tqdm import tqdm

from stages.checks.leakage import EarlierRows, alike
from stages.checks.row_checks import HELD_OUT, ROW_CHECKS, Finding, Findings, check_rows
from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import replacing, write_json
from stages.core.params import load_params
from stages.corpus.extra_rows import TABLE as EXTRA
from stages.corpus.extra_rows import is_extra
from stages.corpus.hangul import hangul_share
from stages.corpus.near_duplicates import similar_pairs
from stages.corpus.tables import Split, TableStream, open_table, write_table, writing_table

log = logging.getLogger(__name__)

TRAIN_CHECKS = ("exact_duplicates", "leakage")
KOREAN_CHECKS = ("not_korean",)
CHECKS = (*TRAIN_CHECKS, "personal_data", *ROW_CHECKS, "near_duplicates")
FINDING_COLUMNS = ["fname", "table", "check", "detail"]


@dataclass(frozen=True)
class Dialogues:
    """The dialogues of tables, read anew each time that they are iterated."""

    paths: Sequence[Path]

    def __iter__(self) -> Iterator[str]:
        for path in self.paths:
            for batch in open_training_rows(path).batches():
                yield from batch["dialogue"]


@dataclass
class Checked:
    """Rows of a table, or of a source of `data.extra`, that went through the checks."""

    count: int = 0
    """How many came in."""
    fnames: list[str] = field(default_factory=list)
    """Those that stay."""
    skipped: Sequence[str] = ()
    """Checks that were not made."""


def open_training_rows(path: Path) -> TableStream:
    return open_table(path, "train", allow_empty=path.stem == EXTRA)


def check_table(stream: TableStream, target: Path, earlier: EarlierRows, findings: Findings) -> dict[str, Checked]:
    """Check the rows of a table against earlier ones, and one by one, and write those that stay.

    Returns:
        What came of them, by the table's name; rows of `data.extra` by their sources.
    """
    name = stream.path.stem
    foreign = foreign_sources(stream.path, findings.settings.min_korean_share) if name == EXTRA else []
    checked: dict[str, Checked] = {}
    with writing_table(target, stream.columns) as writer:
        for batch in tqdm(stream.batches(), desc=f"check {name}", unit=" batches", disable=None, leave=False):
            for table, part in batch.groupby("source", sort=False) if name == EXTRA else [(name, batch)]:
                of = checked.setdefault(table, Checked(skipped=KOREAN_CHECKS if table in foreign else ()))
                rows = (row for row in part.to_dict("records") if not earlier.removes(row, table))
                passed = list(check_rows(rows, table, findings, of.skipped))
                kept = pd.DataFrame(passed, columns=stream.columns, dtype="str")
                of.count += len(part)
                of.fnames.extend(kept["fname"])
                writer.write(kept)
    for table, of in checked.items():
        if not of.fnames:
            check = next(finding.check for finding in reversed(findings.removed) if finding.table == table)
            remedy = "take the table out of data.extra" if is_extra(table) else "set it to warn"
            raise UserError(
                f"{findings.place(table)}: the checks remove every row, the last by check.{check}; {remedy}"
            )
    return checked


def foreign_sources(path: Path, least: float) -> list[str]:
    """The sources of `data.extra` of which most dialogues are not Korean: they are meant so, and are told of once."""
    rows, others = Counter[str](), Counter[str]()
    for batch in open_training_rows(path).batches():
        rows.update(batch["source"])
        others.update(batch["source"][[hangul_share(dialogue) < least for dialogue in batch["dialogue"]]])
    foreign = [source for source in rows if 2 * others[source] > rows[source]]
    for source in foreign:
        log.info(
            "%s: %d of %d dialogues are not Korean, so check.not_korean leaves this table alone",
            source,
            others[source],
            rows[source],
        )
    return foreign


def check_similar(tables: Sequence[Path], rows: Sequence[tuple[str, str]], findings: Findings) -> None:
    """Find the training rows that are like an earlier one, and take them out if they are to go.

    Args:
        tables: the files that hold them.
        rows: of each row in them the table, or its source, and the fname.
    """
    removed: set[str] = set()
    for earlier, later, similarity in similar_pairs(Dialogues(tables), findings.settings.near_duplicate_threshold):
        table, fname = rows[later]
        detail = alike(" row ".join(rows[earlier]), similarity)
        if findings.tell(Finding(fname, table, "near_duplicates", detail)):
            removed.add(fname)
    for path in tables if removed else ():
        stream = open_training_rows(path)
        with writing_table(path, stream.columns) as writer:
            for batch in stream.batches():
                writer.write(batch[~batch["fname"].isin(removed)])


def summarize(checked: Mapping[str, Checked], findings: Findings) -> dict[str, dict[str, int]]:
    """Log which checks found something; of each table, count all rows, those kept, and each check's findings."""
    removed = Counter((finding.table, finding.check) for finding in findings.removed)
    found = removed + Counter((finding.table, finding.check) for finding in findings.warned)
    report: dict[str, dict[str, int]] = {}
    for table, rows in checked.items():
        checks = [check for check in CHECKS if table not in HELD_OUT or check not in TRAIN_CHECKS]
        checks = [check for check in checks if findings.action(check) != "ignore" and check not in rows.skipped]
        for check in checks:
            if found[table, check]:
                kept = table in HELD_OUT and findings.action(check) == "remove"
                log.info(
                    "%s: check.%s: %d of %d rows, %d removed%s",
                    findings.place(table),
                    check,
                    found[table, check],
                    rows.count,
                    removed[table, check],
                    "; rows of dev and test never are" if kept else "",
                )
        gone = sum(count for (place, _), count in removed.items() if place == table)
        report[table] = {"rows": rows.count, "kept": rows.count - gone}
        report[table] |= {check: found[table, check] for check in checks}
    return report


def write_findings(findings: Sequence[Finding], path: Path) -> None:
    rows = [[finding.fname, finding.table, finding.check, finding.detail] for finding in findings]
    write_table(pd.DataFrame(rows, columns=FINDING_COLUMNS, dtype="str"), path)


def main() -> None:
    params = load_params()
    findings = Findings(params.check, paths.CLEAN)
    earlier = EarlierRows(findings)
    checked: dict[str, Checked] = {}
    with replacing(paths.CHECKED) as folder:
        folder.mkdir()
        for split in ("dev", "test"):
            stream = open_table(paths.CLEAN / f"{split}.csv", split)
            checked |= check_table(stream, folder / stream.path.name, earlier, findings)
        training = [folder / "train.csv", folder / f"{EXTRA}.csv"]
        for path in training:
            checked |= check_table(open_training_rows(paths.CLEAN / path.name), path, earlier, findings)
        if params.check.near_duplicates != "ignore":
            rows = [(table, fname) for table in checked if table not in HELD_OUT for fname in checked[table].fnames]
            check_similar(training, rows, findings)
        write_findings(findings.removed, folder / "removed.csv")
        write_findings(findings.warned, folder / "warnings.csv")
    in_order = {split: checked[split] for split in get_args(Split)} | checked
    write_json(paths.CHECK_METRICS, summarize(in_order, findings))
    log.info(
        "check: %d rows removed, %d warnings; see %s/removed.csv and warnings.csv",
        len(findings.removed),
        len(findings.warned),
        paths.CHECKED,
    )


if __name__ == "__main__":
    run_stage(main)
