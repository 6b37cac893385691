"""Score the predictions against references and extractive baselines, check what ROUGE cannot see, and report.

    python -m stages.evaluate

Scores go into Git, those of each row too; the report, which shows every dialogue, stays in DVC's cache. The two files
that DVC compares as metrics hold the headline only, so that what it prints fits a screen. Training's metrics, curves
and kind of machine are copied from models/training: an output of `train` itself in Git would keep DVC from restoring
an earlier training out of its run cache.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dvclive import Live

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import read_json, replacing, write_json, write_text
from stages.core.params import load_params
from stages.corpus.predictions import read_predictions
from stages.corpus.tables import Split, read_table, references
from stages.pages.evaluation_page import Scored, render_report
from stages.scoring.baselines import BASELINES
from stages.scoring.morphemes import CUTTERS, Cutter, as_analyzer, remembering
from stages.scoring.rouge import Scorer, Scores
from stages.scoring.row_scores import row_score, to_csv
from stages.scoring.score_table import REFITTED, SPLITS, summary_table
from stages.scoring.scored_rows import ScoredRow, headline, measure, score_rows

logger = logging.getLogger(__name__)


def read_split(split: Split, cut: Cutter) -> tuple[list[ScoredRow], dict[str, list[Scores]]]:
    """The rows that have references, scored, and for each baseline its scores of the same rows."""
    table = read_table(paths.CHECKED / f"{split}.csv", split)
    predictions = read_predictions(paths.PREDICTIONS / f"{split}.csv", table["fname"])
    topics = table["topic"] if "topic" in table else [""] * len(table)
    given = zip(table["fname"], table["dialogue"], references(table), predictions, topics, strict=True)
    kept = [(fname, dialogue, refs, summary, topic) for fname, dialogue, refs, summary, topic in given if refs]
    logger.info("%s: %d predictions, %d with references", split, len(predictions), len(kept))
    if not kept:
        return [], {}
    fnames, dialogues, refs, summaries, of = (list(column) for column in zip(*kept, strict=True))
    morphemes = Scorer(as_analyzer(cut))
    rows = score_rows(fnames, dialogues, refs, summaries, of, morphemes)
    copied = {name: [extract(dialogue) for dialogue in dialogues] for name, extract in BASELINES.items()}
    return rows, {name: morphemes.rows(texts, refs) for name, texts in copied.items()}


def write_metrics(metrics: dict[str, Any], path: Path) -> None:
    """Write metrics through DVCLive, whole.

    DVCLive writes outside the repository first: in `dvc exp run` it adds what it finds in its folder to Git.
    """
    with TemporaryDirectory() as folder:
        with Live(dir=folder, dvcyaml=False, save_dvc_exp=False) as live:
            live.summary = metrics
        write_text(path, Path(live.metrics_file).read_text(encoding="utf-8"))


def training_headline(logged: dict[str, Any]) -> dict[str, Any]:
    """What to compare runs by, of what training logged: the last step's loss, and the adapter's on dev and its step."""
    kept = {"train": ["loss"], "best": ["eval_loss", "step"]}
    found = {part: {name: logged.get(part, {}).get(name) for name in names} for part, names in kept.items()}
    return {part: present for part, of in found.items() if (present := {k: v for k, v in of.items() if v is not None})}


def copy_training(training: Path, target: Path) -> None:
    """Copy what training wrote: the headline of its metrics, its curves, and the kind of machine.

    Raises:
        UserError: training wrote none.
    """
    for path in (training / name for name in ("metrics.json", "plots", "machine.json")):
        if not path.exists():
            raise UserError(f"{path}: not found; `dvc repro` trains and writes it")
    write_metrics(training_headline(read_json(training / "metrics.json")), target / "metrics.json")
    write_json(target / "machine.json", read_json(training / "machine.json"))
    with replacing(target / "plots") as temporary:
        # Contents only: DVC may have made the originals read-only.
        shutil.copytree(training / "plots", temporary, copy_function=shutil.copyfile)


def read_decoding(path: Path) -> dict[str, Any]:
    """Read how the summaries were generated.

    Raises:
        UserError: there is no such file.
    """
    try:
        decoding: dict[str, Any] = read_json(path)
    except FileNotFoundError:
        raise UserError(f"{path}: not found; `dvc repro` writes it") from None
    return decoding


def main() -> None:
    params = load_params()
    analyzer = params.evaluate.morphemes
    cut = remembering(CUTTERS[analyzer])
    decoding = read_decoding(paths.DECODING)
    read = {split: read_split(split, cut) for split in SPLITS}
    scored: dict[str, Scored] = {split: (rows, baselines) for split, (rows, baselines) in read.items() if rows}
    scores = {split: measure(rows, baselines) for split, (rows, baselines) in scored.items()}
    by_row = {
        split: {row.fname: row_score(row.references, row.scores) for row in rows} for split, (rows, _) in scored.items()
    }
    copy_training(paths.TRAINING_LOG, paths.TRAIN_METRICS)
    write_text(paths.REPORT, render_report(scored, decoding, cut, refitted=params.refit.enabled))
    adapters = {"dev": paths.ADAPTER.as_posix(), "test": paths.REFIT.as_posix()}
    every = scores | ({REFITTED: adapters} if params.refit.enabled else {})
    write_json(paths.EVAL_SCORES, every)
    write_text(paths.ROW_SCORES, to_csv(by_row, analyzer))
    write_metrics({split: headline(measured) for split, measured in scores.items()}, paths.EVAL_METRICS)
    print(summary_table(every))


if __name__ == "__main__":
    run_stage(main)
