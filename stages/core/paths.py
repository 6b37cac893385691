"""Where a run's artefacts lie, and what outlasts a run and is shared with queued experiments."""

from __future__ import annotations

import os
from pathlib import Path

MANIFEST = Path("models/base.json")
"""What the base model is and where its weights come from."""
ADAPTER = Path("models/adapter")
MERGED_MODEL = Path("models/merged")
"""The base model with the adapter in its weights, as `export` writes it."""
TRAINING_LOG = Path("models/training")
"""DVCLive's files and the previews."""
FOLDS = Path("models/folds")
"""The adapter of each fold, by its number, and `FOLD_ROWS`."""
FOLD_ROWS = FOLDS / "rows.csv"
"""The fold that each original training row is of, whose adapter has not seen it."""
REFIT = Path("models/refit")
"""The adapter that learned dev too; empty without one."""
ALIGNED = Path("models/aligned")
"""The adapter that was trained further, on scored candidates; empty without one."""

INPUTS_FOUND = Path("data/.found")
"""Says that the tables and rules that params.yaml names are within reach, and links to those of `data.extra`."""
ADAPTERS_FOUND = Path("models/.found")
"""Links to the adapters that `decoding.ensemble` names by their folders."""
INGESTED = Path("data/ingested")
CLEAN = Path("data/clean")
CHECKED = Path("data/checked")
TRAIN = CHECKED / "train.csv"
DEV = CHECKED / "dev.csv"
TEST = CHECKED / "test.csv"
EXTRA = CHECKED / "extra.csv"
"""The rows of all further training tables."""
PARAPHRASES = Path("data/augmented/paraphrase.csv")
SWAPS = Path("data/augmented/speaker_swap.csv")
SYNTHETIC = Path("data/augmented/synthetic.csv")
REJECTED = Path("data/augmented/rejected.csv")
"""Generated rows that were not used, each with its reason."""
PARAPHRASE_ANSWERS = Path("data/answers/paraphrase.jsonl")
SYNTHESIZE_ANSWERS = Path("data/answers/synthesize.jsonl")
MERGED = Path("data/merged/train.csv")
OUT_OF_FOLD = Path("data/out_of_fold.csv")
"""Each original training row summarized by the adapter that has not seen it."""
CANDIDATES = Path("data/candidates.jsonl")
"""Scored summaries of each original training row, by the adapter that has not seen it, and of each dev row."""
PREDICTIONS = Path("data/predictions")
DEV_PREDICTIONS = PREDICTIONS / "dev.csv"
SUBMISSION = Path("data/submission.csv")

INGEST_METRICS = Path("metrics/data/ingest.json")
CLEANING_METRICS = Path("metrics/data/cleaning.json")
CHECK_METRICS = Path("metrics/data/checks.json")
AUGMENTATION_METRICS = Path("metrics/data/augmentation.json")
DATA_PLOTS = Path("metrics/data/plots")
EXPLORATION = Path("metrics/figures/explore.html")
TRAIN_METRICS = Path("metrics/train")
MACHINE = Path("metrics/train/machine.json")
"""The kind of machine that trained."""
SPEED = Path("metrics/train/speed.json")
TRAIN_HEADLINE = Path("metrics/train/metrics.json")
DECODING = Path("metrics/eval/decoding.json")
"""The decoding settings that `tune_decoding` chose, and all that it tried."""
DECODING_POINTS = Path("metrics/eval/decoding")
POSTPROCESS_EFFECTS = Path("metrics/eval/postprocess.json")
EVAL_METRICS = Path("metrics/eval/metrics.json")
"""The headline, which DVC compares."""
EVAL_SCORES = Path("metrics/eval/scores.json")
"""All that is measured, the headline included."""
FOLD_SCORES = Path("metrics/eval/folds.json")
"""What the out-of-fold predictions score, together and by fold."""
CANDIDATE_SCORES = Path("metrics/eval/candidates.json")
"""What a search scores on candidates' rows, and the best of the samples."""
ALIGNMENT_LOG = Path("metrics/align")
"""DVCLive's files and the previews of `align`."""
ROW_SCORES = Path("metrics/eval/rows.csv")
REPORT = Path("metrics/eval/report.html")
LEADERBOARD = Path("metrics/figures/leaderboard.html")
"""Of all runs at once: drawn when asked for, and no output of the pipeline."""

SWEEPS = Path("metrics/sweep")
"""Tables of sweeps, likewise."""
RECIPES = Path("recipes")
SUBMISSIONS = Path("submissions")
"""Each submission that was kept, with its record."""


def project_root() -> Path:
    """The repository's own folder.

    Queued and temporary experiments run in a copy; DVC points `DVC_ROOT` at the repository they came from.
    """
    return Path(os.environ.get("DVC_ROOT", ".")).resolve()


def weights_folder() -> Path:
    """Base models in safetensors, unpacked once: neither in Git nor in DVC's cache."""
    return project_root() / "models" / "weights"


def checkpoints_folder() -> Path:
    """Checkpoints of trainings under way: outside of DVC's outputs, which a rerun deletes."""
    return project_root() / "models" / "checkpoints"


def speeds_folder() -> Path:
    """The speed of each training on this machine: in neither Git nor DVC's cache, since it never repeats."""
    return project_root() / "models" / "speeds"


def partial_folder() -> Path:
    """Answers of a generation under way, likewise outside of DVC's outputs."""
    return project_root() / "models" / "partial"
