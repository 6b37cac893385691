"""Train a last adapter on train and dev: `python -m stages.refit` writes models/refit.

It goes as far as was best on dev for the run before, in epochs, on the same schedule, and nothing measures it: dev is
among what it learns, each of its references as a row. `infer` has it summarize test, with the decoding settings that
dev chose for the run before. Without `refit.enabled`, models/refit is empty.
"""

from __future__ import annotations

import logging

from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import replacing
from stages.core.gpus import take_gpus
from stages.core.params import load_params

logger = logging.getLogger(__name__)


def main() -> None:
    params = load_params()
    if params.refit.enabled:
        take_gpus(params)
        # What trains takes seconds to import, and a run without a refit needs none of it.
        from stages.retraining.last_adapter import refit
        from stages.training.processes import together
        from stages.training.session import refuse_what_cannot_run

        with together(params.train, "stages.refit") as processes:
            refuse_what_cannot_run(params)
            refit(params, processes)
    else:
        logger.info("refit.enabled = false: skipped, %s is empty", paths.REFIT)
        with replacing(paths.REFIT) as folder:
            folder.mkdir()


if __name__ == "__main__":
    run_stage(main)
