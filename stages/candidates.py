"""Write and score several summaries of each original training row and each dev row: `python -m stages.candidates`.

data/candidates.jsonl has beams and samples, a training row's by the adapter of its fold, and with each its scores and
what checks found: what `align` and a learned reranker learn from. metrics/eval/candidates.json says what the search
scores there, and the best of the samples. Candidates are kept as they come, and a run that was killed goes on.
"""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd

from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import write_json, write_text
from stages.core.gpus import take_gpus
from stages.core.params import load_params
from stages.corpus.tables import AUGMENTED_COLUMNS, read_table

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    if not params.candidates.samples:
        logger.info("candidates.samples = 0: skipped, %s holds none", paths.CANDIDATES)
        write_text(paths.CANDIDATES, "")
        write_json(paths.CANDIDATE_SCORES, {})
        return
    take_gpus(params)
    # What generates takes seconds to import, and a run without candidates needs none of it.
    from stages.retraining.candidates import candidate_rows
    from stages.scoring.candidates import summarized, write_candidates

    folds = pd.read_csv(paths.FOLD_ROWS, dtype=str, keep_default_na=False)
    train = read_table(paths.MERGED, "train").reindex(columns=AUGMENTED_COLUMNS, fill_value="")
    rows, log = candidate_rows(
        params, folds.merge(train, on="fname", validate="one_to_one"), read_table(paths.DEV, "dev")
    )
    report: dict[str, Any] = summarized(rows)
    for split, found in report.items():
        logger.info("%s: %d candidates of %d rows", split, found["candidates"], found["rows"])
    write_candidates(rows, paths.CANDIDATES)
    write_json(paths.CANDIDATE_SCORES, report)
    log.remove()


if __name__ == "__main__":
    run_stage(main)
