"""Score the predictions against references and extractive baselines, and put a run's metrics into Git.

    python -m stages.evaluate

Training's metrics and curves are copied from models/training: an output of `train` itself in Git would keep
DVC from restoring an earlier training out of its run cache.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from dvclive import Live

from stages.common.dialogue import MASK_OR_SPEAKER
from stages.common.errors import UserError, run_stage
from stages.common.extractive import BASELINES
from stages.common.files import replacing, write_text
from stages.common.params import load_params
from stages.common.rouge import ANALYSERS, Analyser, morpheme_scores, word_scores
from stages.common.submission import read_predictions
from stages.common.summary_table import SPLITS, summary_table
from stages.common.tables import read_table, references

TABLES = Path("data/clean")
PREDICTIONS = Path("data/predictions")
TRAINING = Path("models/training")
TRAIN_METRICS = Path("metrics/train")
EVAL_METRICS = Path("metrics/eval/metrics.json")

logger = logging.getLogger(__name__)


def score(
    predictions: Sequence[str], dialogues: Sequence[str], refs: Sequence[Sequence[str]], analyse: Analyser
) -> dict[str, Any]:
    """The metrics of one split, rounded to 4 decimals.

    Args:
        predictions: a summary for each row; it may be empty.
        dialogues: what the rows summarise, which the baselines copy from.
        refs: the reference summaries of each row.
        analyse: the analyser behind the morpheme-level scores.
    """
    baselines = {name: [extract(dialogue) for dialogue in dialogues] for name, extract in BASELINES.items()}
    return {
        "word": word_scores(predictions, refs).rounded(),
        "morpheme": morpheme_scores(predictions, refs, analyse).rounded(),
        "baselines": {
            name: {"final": morpheme_scores(summaries, refs, analyse).rounded()["final"]}
            for name, summaries in baselines.items()
        },
        "empty": sum(not prediction.strip() for prediction in predictions),
        "length_ratio": round(length_ratio(predictions, refs), 4),
        "hangul_share": round(hangul_share(predictions), 4),
    }


def length_ratio(predictions: Sequence[str], refs: Sequence[Sequence[str]]) -> float:
    """Characters of the predictions for each one of the references."""
    return sum(map(len, predictions)) / sum(fmean(map(len, row)) for row in refs)


def hangul_share(predictions: Sequence[str]) -> float:
    """Share of Hangul among the letters outside masks, from 0 to 1; low where a model answers in English."""
    letters = [char for char in MASK_OR_SPEAKER.sub("", " ".join(predictions)) if char.isalpha()]
    return sum("가" <= char <= "힣" for char in letters) / max(len(letters), 1)


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


def main() -> None:
    params = load_params()
    analyse = ANALYSERS[params.evaluate.morphemes]
    metrics: dict[str, Any] = {}
    for split in SPLITS:
        table = read_table(TABLES / f"{split}.csv", split)
        predictions = read_predictions(PREDICTIONS / f"{split}.csv", table["fname"])
        rows = zip(predictions, table["dialogue"], references(table), strict=True)
        scored = [row for row in rows if row[2]]
        logger.info("%s: %d predictions, %d with references", split, len(predictions), len(scored))
        if scored:
            summaries, dialogues, refs = zip(*scored, strict=True)
            metrics[split] = score(summaries, dialogues, refs, analyse)
    copy_training(TRAINING, TRAIN_METRICS)
    write_metrics(metrics, EVAL_METRICS)
    print(summary_table(metrics))


if __name__ == "__main__":
    run_stage(main)
