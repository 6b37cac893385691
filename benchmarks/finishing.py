"""What each part of the finishing kit adds, one upon the other: folds, minimum Bayes risk, further rows, the refit.

    python -m benchmarks.finishing --source data/sample --seeds 1 2 3

For each seed a run of the pipeline in a folder of its own, whose stages run again as the steps ask for it. With the
step `extra`, a quarter of the training rows is taken apart at first and comes back as a further table. The baseline is
the recipe's single adapter with its best decoding. Scores are at morpheme level; dev says nothing of `refit`, whose
adapter has learned it. With --output, a
seed whose steps are all in the file is not done again: give other options another file.
"""

from __future__ import annotations

import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

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
    unfinished,
)
from stages.core.errors import run_stage
from stages.core.params import Settings, read_yaml
from stages.corpus.tables import read_table, write_table
from stages.scoring.score_table import SPLITS

SINGLE, EXTRA = "single", "extra"


class Step(NamedTuple):
    """What is set in addition to the steps before, and the stages that run then; with `data`, those of the data too."""

    settings: Settings
    stages: list[str]
    data: bool = False


def ladder(folds: int, samples: int) -> dict[str, Step]:
    """The steps by name, in their order."""
    return {
        SINGLE: Step({"folds.n": 0, "decoding.rerank": "none", "decoding.ensemble": []}, TRAINING_STAGES, data=True),
        "mbr": Step({"decoding.rerank": "mbr", "decoding.samples": samples}, ["infer"]),
        "folds": Step({"folds.n": folds, "decoding.ensemble": ["folds"]}, ["folds", "infer"]),
        EXTRA: Step({"data.extra": [{"path": "data/raw/extra.csv"}]}, TRAINING_STAGES, data=True),
        "refit": Step({"refit.enabled": True}, ["refit", "infer"]),
    }


def divide(source: Path, target: Path) -> None:
    """The tables of a source, with each fourth training row in a table of its own."""
    target.mkdir()
    for split in ("dev", "test"):
        shutil.copy(source / f"{split}.csv", target)
    train = read_table(source / "train.csv", "train")
    apart = train.index % 4 == 3
    write_table(train[~apart], target / "train.csv")
    write_table(train[apart], target / "extra.csv")


def run(recipe: str, source: Path, seed: int, steps: dict[str, Step], keep: Path | None) -> list[Result]:
    """One seed of training and decoding, on rows that are the same for all: a result for each step."""
    results = []
    with TemporaryDirectory() as temporary:
        folder = (keep or Path(temporary)) / f"finishing-{source.name}-{seed}"
        shutil.rmtree(folder, ignore_errors=True)
        project, tables = folder / "project", source
        project.mkdir(parents=True)
        if EXTRA in steps:
            tables = folder / "tables"
            divide(source, tables)
        make_project(project, tables, settings_of(recipe))
        rows_seed = read_yaml(project / "params.yaml")["seed"]
        for name, step in steps.items():
            change(project, step.settings | {"seed": rows_seed})
            seconds: dict[str, float] = run_stages(DATA_STAGES, project) if step.data else {}
            change(project, {"seed": seed})
            seconds |= run_stages(step.stages, project)
            result: Result = {"name": name, "source": source.name, "seed": seed, "seconds": seconds}
            results.append(result | {split: score(project, split) for split in SPLITS})
    return results


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--recipe", default=SAMPLE, help="of recipes/, or a file")
    parser.add_argument("--steps", nargs="+", help="of single, mbr, folds, extra and refit; all by default")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=16, help="of each adapter, for minimum Bayes risk")
    options = parser.parse_args()
    steps = ladder(options.folds, options.samples)
    if options.steps:
        steps = {name: steps[name] for name in options.steps}
    known = [each for each in read_results(options.output, options.source) if each["name"] in steps]
    seeds = unfinished(options.seeds, known, lambda _: steps)
    missing = [(options.recipe, options.source, seed, steps, options.keep) for seed in seeds]
    known = [each for each in known if each["seed"] not in seeds]
    run_and_show(run, missing, known, list(steps), options)


if __name__ == "__main__":
    run_stage(main)
