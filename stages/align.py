"""Train models/adapter further, by what its candidates are worth: `python -m stages.align` writes models/aligned.

Fine-tuning learns the next token of one reference; the score is of whole summaries. Here the adapter learns which
candidates of data/candidates.jsonl are worth more, by `align.objective` and `reward`, with the loss of fine-tuning
beside. The best step is chosen by the same loss on the candidates of dev. What decodes takes the adapter of this stage.
With the objective `none`, models/aligned and metrics/align are empty. Run again after an interruption, it goes on.
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
    if params.align.objective != "none":
        take_gpus(params)
        # What trains takes seconds to import, and a run without an alignment needs none of it.
        from stages.retraining.align import align
        from stages.training.processes import together
        from stages.training.session import refuse_what_cannot_run

        with together(params.train, "stages.align") as processes:
            refuse_what_cannot_run(params)
            align(params, processes)
    else:
        logger.info("align.objective = none: skipped, %s is empty", paths.ALIGNED)
        for path in (paths.ALIGNED, paths.ALIGNMENT_LOG):
            with replacing(path) as folder:
                folder.mkdir()


if __name__ == "__main__":
    run_stage(main)
