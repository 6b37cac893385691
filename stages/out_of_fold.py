"""Summarize and score each original training row by the adapter that has not seen it: `python -m stages.out_of_fold`.

data/out_of_fold.csv has the summaries with their folds, for what is to learn from a model's own mistakes;
metrics/eval/folds.json has their scores. Answers are kept as they come, and a run that was killed goes on.
"""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import write_json
from stages.core.gpus import take_gpus
from stages.core.params import load_params
from stages.core.shared_folder import remove_kept
from stages.corpus.tables import AUGMENTED_COLUMNS, read_table, write_table

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    remove_kept(paths.checkpoints_folder())
    folds = pd.read_csv(paths.FOLD_ROWS, dtype=str, keep_default_na=False)
    train = read_table(paths.MERGED, "train").reindex(columns=AUGMENTED_COLUMNS, fill_value="")
    rows = folds.merge(train, on="fname", validate="one_to_one")
    summaries: list[str] = []
    log: Any = None
    found: dict[str, Any] = {}
    if len(rows):
        take_gpus(params)
        # What generates takes seconds to import, and a run without folds needs none of it.
        from stages.retraining.held_out import scores, summarize_held_out

        summaries, log = summarize_held_out(params, rows)
        found = scores(params, rows, summaries)
        logger.info("%d training rows, each by the adapter that has not seen it: %.2f", len(rows), found["final"])
    else:
        logger.info("folds.n = 0: skipped, %s holds no rows", paths.OUT_OF_FOLD)
    columns = {"fname": rows["fname"], "summary": summaries, "fold": rows["fold"]}
    write_table(pd.DataFrame(columns, dtype="str"), paths.OUT_OF_FOLD)
    write_json(paths.FOLD_SCORES, found)
    if log is not None:
        log.remove()


if __name__ == "__main__":
    run_stage(main)
