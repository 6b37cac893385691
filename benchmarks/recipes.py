"""Whether a recipe's summaries are better than another's, and than plain TRL's, on the same tables and over some seeds.

    python -m benchmarks.recipes --source data/sample --recipes fewshot_baseline plain_trl sample --seeds 1 2 3

Each run is the pipeline's own stages in a folder of its own, with params.yaml as a recipe changes it. `plain_trl` is no
recipe: it trains by TRL's defaults (benchmarks/plain_trl.py) and decodes greedily. The rows are the same for all seeds,
which training and decoding take. Scores are at morpheme level; the rows' means over the seeds are compared with those
of the first recipe. With --output, what is in the file is not done again.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.pipeline_runs import (
    DATA_STAGES,
    SAMPLE,
    TRAINING_STAGES,
    Result,
    change,
    make_project,
    options_of,
    read_results,
    run_and_show,
    run_stages,
    score,
    settings_of,
)
from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import read_json
from stages.core.params import Settings
from stages.scoring.score_table import SPLITS

PLAIN = "plain_trl"
UNAIDED: Settings = {  # what a plain training has not
    "augment.paraphrase.n": 0,
    "augment.speaker_swap.n": 0,
    "augment.synthesize.n": 0,
    "train.epochs": 3,
    "decoding.tune": False,
    "decoding.postprocess": [],
}


def run(recipe: str, source: Path, seed: int, keep: Path | None) -> list[Result]:
    """One run of a recipe: what it chose, what it took, and its scores."""
    with TemporaryDirectory() as temporary:
        folder = (keep or Path(temporary)) / f"{Path(recipe).stem}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        plain = recipe == PLAIN
        make_project(folder, source, settings_of(SAMPLE) | UNAIDED if plain else settings_of(recipe))
        seconds = run_stages(DATA_STAGES, folder)
        change(folder, {"seed": seed})
        train = "benchmarks.plain_trl" if plain else "train"
        seconds |= run_stages([train, *TRAINING_STAGES[1:]], folder)
        return [
            {
                "name": Path(recipe).stem,
                "source": source.name,
                "seed": seed,
                "rows": read_json(folder / paths.AUGMENTATION_METRICS)["total"],
                "decoding": read_json(folder / paths.DECODING)["chosen"],
                "seconds": seconds,
                **{split: score(folder, split) for split in SPLITS},
            }
        ]


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--recipes", nargs="+", default=["fewshot_baseline", PLAIN, SAMPLE])
    options = parser.parse_args()
    known = read_results(options.output, options.source)
    done = {(each["name"], each["seed"]) for each in known}
    missing = [
        (recipe, options.source, seed, options.keep)
        for seed in options.seeds
        for recipe in options.recipes
        if (Path(recipe).stem, seed) not in done
    ]
    run_and_show(run, missing, known, [Path(recipe).stem for recipe in options.recipes], options)


if __name__ == "__main__":
    run_stage(main)
