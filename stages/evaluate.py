"""Score the predictions against references and extractive baselines, check what ROUGE cannot see, and report.

    python -m stages.evaluate

The metrics go into Git; the report, which shows every dialogue, stays in DVC's cache. Training's metrics and
curves are copied from models/training: an output of `train` itself in Git would keep DVC from restoring an
earlier training out of its run cache.
"""

from __future__ import annotations

import logging
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from dvclive import Live

from stages.common.errors import UserError, run_stage
from stages.common.extractive import BASELINES
from stages.common.files import read_json, replacing, write_text
from stages.common.morphemes import CUTTERS, Cutter, analyser, remembering
from stages.common.params import load_params
from stages.common.report import Scored, report
from stages.common.rouge import Scorer, Scores
from stages.common.scored import Row, measure, score_rows
from stages.common.submission import read_predictions
from stages.common.summary_table import SPLITS, summary_table
from stages.common.tables import Split, read_table, references

TABLES = Path("data/checked")
PREDICTIONS = Path("data/predictions")
TRAINING = Path("models/training")
TRAIN_METRICS = Path("metrics/train")
EVAL_METRICS = Path("metrics/eval/metrics.json")
DECODING = Path("metrics/eval/decoding.json")
REPORT = Path("metrics/eval/report.html")

logger = logging.getLogger(__name__)


def read_split(split: Split, cut: Cutter) -> tuple[list[Row], dict[str, list[Scores]]]:
    """The rows that have references, scored, and for each baseline its scores of the same rows."""
    table = read_table(TABLES / f"{split}.csv", split)
    predictions = read_predictions(PREDICTIONS / f"{split}.csv", table["fname"])
    topics = table["topic"] if "topic" in table else [""] * len(table)
    given = zip(table["fname"], table["dialogue"], references(table), predictions, topics, strict=True)
    kept = [(fname, dialogue, refs, summary, topic) for fname, dialogue, refs, summary, topic in given if refs]
    logger.info("%s: %d predictions, %d with references", split, len(predictions), len(kept))
    if not kept:
        return [], {}
    fnames, dialogues, refs, summaries, of = (list(column) for column in zip(*kept, strict=True))
    morphemes = Scorer(analyser(cut))
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


def copy_training(training: Path, target: Path) -> None:
    """Copy the metrics and curves that training wrote.

    Raises:
        UserError: training wrote none.
    """
    for path in (training / "metrics.json", training / "plots"):
        if not path.exists():
            raise UserError(f"{path}: not found; `dvc repro` trains and writes it")
    write_text(target / "metrics.json", (training / "metrics.json").read_text(encoding="utf-8"))
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
    cut = remembering(CUTTERS[load_params().evaluate.morphemes])
    decoding = read_decoding(DECODING)
    read = {split: read_split(split, cut) for split in SPLITS}
    scored: dict[str, Scored] = {split: (rows, baselines) for split, (rows, baselines) in read.items() if rows}
    metrics = {split: measure(rows, baselines) for split, (rows, baselines) in scored.items()}
    copy_training(TRAINING, TRAIN_METRICS)
    write_text(REPORT, report(scored, decoding, cut))
    write_metrics(metrics, EVAL_METRICS)
    print(summary_table(metrics))


if __name__ == "__main__":
    run_stage(main)
