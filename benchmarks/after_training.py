"""What comes after fine-tuning, each beside fine-tuning with its best decoding: minimum Bayes risk, the reranker that
learns, and a further training by what candidates are worth.

    python -m benchmarks.after_training --source data/sample --seeds 1 2 3
    python -m benchmarks.after_training --source FOLDER --set decoding.min_hangul=0 reward.invented=0

For each seed a run of the pipeline in a folder of its own, whose stages run again as the steps ask for it. First comes
the gate: on dev, the best sample of each row by its references, beside the search with four beams. Where that is under
--least points there is too little to gain, it says so, and nothing more is run of that seed. Seconds are those of all
stages that a step needs, but for the data's. Reward, margins and so on are those of params.yaml, or of --set. With
--output, a seed whose steps are all in the file is not done again: give other options another file.
"""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from ruamel.yaml import YAML

from benchmarks.pipeline_runs import (
    DATA_STAGES,
    PERCENTS,
    SAMPLE,
    SCORES,
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
from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import read_json
from stages.core.params import Settings, read_yaml
from stages.corpus.predictions import read_predictions
from stages.corpus.tables import Split, read_table, references
from stages.scoring.prediction_checks import CHECKS
from stages.scoring.score_table import SPLITS

GATE, TUNED = "gate", "fine-tuning"
CHECKED = ("invented", "swapped_speakers")
BASE = ["train", "tune_decoding"]
"""Stages whose seconds are part of every step."""
LEARNS = ("folds", "candidates")
"""Those of a step that learns from candidates."""
ALONE: Settings = {
    "decoding.rerank": "none",
    "decoding.tune_rerank": False,
    "decoding.ensemble": [],
    "align.objective": "none",
    "refit.enabled": False,
}


class Step(NamedTuple):
    """What is set beside `ALONE`, the stages that run then, and those that ran before it and that it needs."""

    settings: Settings
    stages: list[str]
    needs: Sequence[str] = ()


def ladder(samples: int, temperature: float) -> dict[str, Step]:
    """The steps by name, in their order; the aligned ones are also decoded by minimum Bayes risk.

    Args:
        temperature: of the candidates, which those that the learned reranker chooses among have too.
    """
    mbr: Settings = {"decoding.rerank": "mbr", "decoding.samples": samples}
    learned: Settings = {**mbr, "decoding.rerank": "learned", "decoding.temperature": temperature}
    steps = {
        TUNED: Step({}, ["infer"]),
        "+ mbr": Step(mbr, ["infer"]),
        "+ learned": Step(learned, ["tune_decoding", "infer"], LEARNS),
    }
    for name in ("ranking", "dpo"):
        aligned = {"align.objective": name}
        steps[f"+ {name}"] = Step(aligned, ["align", "tune_decoding", "infer"], LEARNS)
        steps[f"+ {name} + mbr"] = Step(aligned | mbr, ["infer"], (*LEARNS, "align"))
    return steps


def gate(found: dict[str, Any], samples: int, least: float) -> tuple[float, str]:
    """What the best samples are above the search on dev, by the mean of published and clipped, and that in words.

    Args:
        found: metrics/eval/candidates.json.
    """
    dev = found["dev"]
    searched, best = (
        fmean(dev[name][metric] for metric in ("morpheme", "clipped")) for name in ("search", "best_sample")
    )
    room = best - searched
    verdict = "goes on" if room >= least else f"under {least:g}: there is too little to gain, stop here"
    return room, f"dev: four beams {searched:.2f}, best of {samples} samples {best:.2f}, {room:+.2f}: {verdict}"


def measured(project: Path, split: Split) -> dict[str, Any]:
    """What `score` gives, the objective's score of each row, and the percent of rows in which checks find something."""
    rows = read_table(project / paths.CHECKED / f"{split}.csv", split)
    summaries = read_predictions(project / paths.PREDICTIONS / f"{split}.csv", rows["fname"])
    given = list(zip(summaries, rows["dialogue"], references(rows), strict=True))
    found = score(project, split)
    balanced = [fmean(pair) for pair in zip(found["published"], found["clipped"], strict=True)]
    shares = {name: 100 * fmean(bool(CHECKS[name](*row)) for row in given) for name in CHECKED}
    return {**found, "objective": balanced, **shares}


def run(
    source: Path, seed: int, steps: dict[str, Step], settings: Settings, samples: int, least: float, keep: Path | None
) -> list[Result]:
    """One seed of training and all that comes after: a result for the gate and for each step."""
    with TemporaryDirectory() as temporary:
        project = (keep or Path(temporary)) / f"after-training-{source.name}-{seed}"
        shutil.rmtree(project, ignore_errors=True)
        project.mkdir(parents=True)
        make_project(project, source, settings)
        run_stages(DATA_STAGES, project)
        alone = {**ALONE, "decoding.temperature": read_yaml(project / "params.yaml")["decoding"]["temperature"]}
        change(project, {**alone, "seed": seed})
        # An empty folder stands for what is not trained, and the search waits for nothing else.
        taken = run_stages(["train", "folds", "candidates", "align", "tune_decoding"], project)
        room, words = gate(read_json(project / paths.CANDIDATE_SCORES), samples, least)
        print(f"{source.name}, seed {seed}: {words}", flush=True)
        common = {"source": source.name, "seed": seed}
        results: list[Result] = [{"name": GATE, **common, "room": room, "seconds": taken}]
        for name, step in steps.items():
            if room < least and name != TUNED:
                continue
            change(project, {**alone, **step.settings})
            taken |= run_stages(step.stages, project)
            needed = dict.fromkeys([*BASE, *step.needs, *step.stages])
            result: Result = {"name": name, **common, "seconds": {each: taken[each] for each in needed}}
            results.append(result | {split: measured(project, split) for split in SPLITS})
    return results


def read_setting(text: str) -> tuple[str, Any]:
    """A dotted key and its value, as `dvc exp run -S` takes them.

    Raises:
        UserError: there is no `=`.
    """
    key, equals, value = text.partition("=")
    if not equals:
        raise UserError(f"--set {text}: write a key and a value, such as align.beta=0.05")
    return key, YAML(typ="safe").load(value)


def missing_seeds(seeds: Sequence[int], known: Sequence[Result], steps: Sequence[str], least: float) -> list[int]:
    """Those of which the results lack something; one that ended at the gate lacks nothing."""

    def asked(of: Sequence[Result]) -> set[str]:
        rooms = [each["room"] for each in of if each["name"] == GATE]
        return {GATE, TUNED} if rooms and rooms[0] < least else {GATE, *steps}

    return unfinished(seeds, known, asked)


def main() -> None:
    parser = options_of(__doc__)
    parser.add_argument("--recipe", default=SAMPLE, help="of recipes/, or a file")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="parameters beside the recipe's")
    parser.add_argument("--folds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=16, help="of each row, and for reranking")
    parser.add_argument(
        "--temperature", type=float, default=1.0, help="of the candidates, and of the learned reranker's"
    )
    parser.add_argument("--least", type=float, default=4.0, help="points that the gate asks for")
    options = parser.parse_args()
    steps = ladder(options.samples, options.temperature)
    settings = {
        **settings_of(options.recipe),
        "folds.n": options.folds,
        "candidates.samples": options.samples,
        "candidates.temperature": options.temperature,
        **dict(map(read_setting, options.set)),
    }
    known = read_results(options.output, options.source)
    seeds = missing_seeds(options.seeds, known, list(steps), options.least)
    tasks = [(options.source, seed, steps, settings, options.samples, options.least, options.keep) for seed in seeds]
    known = [each for each in known if each["seed"] not in seeds]
    run_and_show(run, tasks, known, list(steps), options, ("objective", *SCORES), (*PERCENTS, *CHECKED))


if __name__ == "__main__":
    run_stage(main)
