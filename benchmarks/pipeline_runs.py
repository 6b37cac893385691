"""Runs of the pipeline's stages in folders of their own, several at a time, scored on dev and test.

A worker process imports the libraries once and runs one stage after another, each as `python -m stages.NAME` would.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import logging
import os
import runpy
import shutil
import sys
import time
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ruamel.yaml import YAML
from tqdm import tqdm

from stages.core import paths
from stages.core.errors import UserError
from stages.core.params import Settings, flat, place_of, read_yaml
from stages.corpus.predictions import read_predictions
from stages.corpus.tables import Split, read_table, references
from stages.scoring.bootstrap import paired
from stages.scoring.morphemes import kiwi_morphemes
from stages.scoring.rouge import Scorer, clipped
from stages.scoring.score_table import SPLITS
from stages.scoring.shape import length_ratio, repeated_words

ROOT = Path(__file__).parents[1]
SAMPLE = "sample"
"""The recipe with every key that any other sets."""
DATA_STAGES = [
    *("fetch_model", "find_inputs", "ingest", "clean", "check"),
    *("paraphrase", "speaker_swap", "synthesize", "merge"),
]
TRAINING_STAGES = ["train", "folds", "tune_decoding", "refit", "infer"]
SCORES = ("published", "clipped")
PERCENTS = ("repeats",)

Result = dict[str, Any]
"""A run: `name`, `source`, `seed`, `seconds` by stage, and by split what `score` gives."""


def settings_of(recipe: str) -> Settings:
    """What a recipe sets beside the sample's; a recipe is named as `stages.recipe` names it, or is a file."""
    path = Path(recipe) if recipe.endswith(".yaml") else ROOT / "recipes" / f"{recipe}.yaml"
    return dict(flat(read_yaml(ROOT / "recipes" / f"{SAMPLE}.yaml"))) | dict(flat(read_yaml(path)))


def make_project(folder: Path, source: Path, settings: Settings) -> None:
    """Write what the stages read: parameters, models, rules, answers that an LLM gave, and the tables."""
    for name in ("data/rules", "data/answers"):
        shutil.copytree(ROOT / name, folder / name)
    (folder / "data/raw").symlink_to(source.resolve())
    (folder / "models").mkdir()
    weights = ROOT / "models/weights"
    weights.mkdir(parents=True, exist_ok=True)  # unpacked once for all runs
    (folder / "models/weights").symlink_to(weights)
    shutil.copy(ROOT / "models.yaml", folder)
    shutil.copy(ROOT / "params.yaml", folder)
    change(folder, {**settings, "data.source": "data/raw"})


def change(folder: Path, settings: Settings) -> None:
    """Set values in a project's params.yaml."""
    params = read_yaml(folder / "params.yaml")
    for dotted, value in settings.items():
        section, key = place_of(params, dotted)
        section[key] = value
    YAML().dump(params, folder / "params.yaml")


def find_stages() -> None:
    """Let processes that a stage starts find this repository's modules, whatever folder they run in."""
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])


def run_stages(names: Sequence[str], folder: Path) -> dict[str, float]:
    """Run stages, or modules named in full, in a project one after another; what they print goes to its run.log.

    Returns:
        The seconds that each took.

    Raises:
        UserError: one failed; the log's last line says why.
    """
    seconds = {}
    folder = folder.resolve()
    before, log = Path.cwd(), folder / "run.log"
    os.chdir(folder)
    try:
        for name in names:
            began = time.perf_counter()
            with log.open("a") as file, contextlib.redirect_stdout(file), contextlib.redirect_stderr(file):
                _run(name if "." in name else f"stages.{name}", folder)
            seconds[name] = round(time.perf_counter() - began, 1)
    finally:
        os.chdir(before)
    return seconds


def _run(name: str, folder: Path) -> None:
    sys.argv = [name]
    try:
        runpy.run_module(name, run_name="__main__", alter_sys=True)
    except SystemExit as end:
        if end.code:
            last = (folder / "run.log").read_text().splitlines()[-1:]
            raise UserError(f"{name}: failed in {folder}: {' '.join(last)}") from None
    finally:
        logging.getLogger().handlers.clear()  # they write to the log that is closed now


def score(folder: Path, split: Split) -> dict[str, Any]:
    """The scores of each row of a split, the percent of rows that repeat themselves, and the length ratio."""
    rows = read_table(folder / paths.CHECKED / f"{split}.csv", split)
    refs = references(rows)
    summaries = read_predictions(folder / paths.PREDICTIONS / f"{split}.csv", rows["fname"])
    scorer = Scorer(kiwi_morphemes)
    return {
        "published": [round(row.final, 4) for row in scorer.rows(summaries, refs)],
        "clipped": [round(row.final, 4) for row in scorer.rows(summaries, refs, clipped)],
        "repeats": 100 * fmean(bool(repeated_words(summary)) for summary in summaries),
        "length": length_ratio(summaries, refs),
    }


def read_results(output: Path | None, source: Path) -> list[Result]:
    """The runs of a source that a file of JSON lines holds."""
    if output is None or not output.exists():
        return []
    results = [json.loads(line) for line in output.read_text().splitlines()]
    return [result for result in results if result["source"] == source.name]


def unfinished(
    seeds: Sequence[int], known: Sequence[Result], wanted: Callable[[Sequence[Result]], Collection[str]]
) -> list[int]:
    """The seeds of which some results are missing.

    Args:
        wanted: the names of the results that a seed has to have, given those that it has.
    """
    found = {seed: [each for each in known if each["seed"] == seed] for seed in seeds}
    return [seed for seed, of in found.items() if not {*wanted(of)} <= {each["name"] for each in of}]


def options_of(doc: str | None) -> argparse.ArgumentParser:
    """The options that all benchmarks of whole runs have."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, default=ROOT / "data/sample", help="a folder with the three tables")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--keep", type=Path, help="a folder to keep the runs in")
    parser.add_argument("--output", type=Path, help="a file for the results, JSON lines")
    return parser


def run_and_show(
    work: Callable[..., list[Result]],
    tasks: Sequence[tuple[Any, ...]],
    known: Sequence[Result],
    names: Sequence[str],
    options: argparse.Namespace,
    scores: Sequence[str] = SCORES,
    percents: Sequence[str] = PERCENTS,
) -> None:
    """Do in worker processes what is missing, each result written as soon as it is there; then print the tables.

    Args:
        scores: what the tables have of each row.
        percents: what they have of how many rows.

    Raises:
        UserError: a task failed; the others have ended, and stand in the tables.
    """
    results, failed = list(known), list[UserError]()
    with ProcessPoolExecutor(options.jobs, get_context("spawn"), find_stages) as pool:
        started = [pool.submit(work, *task) for task in tasks]
        for each in tqdm(as_completed(started), total=len(started), unit="run"):
            try:
                found = each.result()
            except UserError as error:
                failed.append(error)
                tqdm.write(str(error))
                continue
            results += found
            if options.output:
                with options.output.open("a") as file:
                    file.writelines(json.dumps(result) + "\n" for result in found)
    shown = [each for each in results if each["seed"] in options.seeds]
    if shown:
        print("\n\n".join(table(shown, names, split, scores, percents) for split in SPLITS))
    if failed:
        raise failed[0]


def average(results: Sequence[Result], split: Split, column: str) -> list[float]:
    """Of each row, the mean over the seeds."""
    return [fmean(values) for values in zip(*(result[split][column] for result in results), strict=True)]


def table(
    results: Sequence[Result],
    names: Sequence[str],
    split: Split,
    scores: Sequence[str] = SCORES,
    percents: Sequence[str] = PERCENTS,
) -> str:
    """Runs of one source as Markdown: a line for each name, with means over the seeds, compared with the first name.

    After ±, the standard deviation of the seeds' means; in brackets the 95% interval of the difference, row by row.
    """
    of = {name: [result for result in results if result["name"] == name] for name in names}
    of = {name: found for name, found in of.items() if found}
    first = next(iter(of))
    header = [split, *(cell for column in scores for cell in (column, "difference")), *percents, "length", "seconds"]
    lines = [f"| {' | '.join(header)} |", "|" + "---|" * len(header)]
    for name, runs in of.items():
        cells = [name]
        for column in scores:
            values = average(runs, split, column)
            cells.append(f"{fmean(values):.2f} ± {deviation(runs, split, column):.2f}")
            gain = paired(average(of[first], split, column), values).interval
            cells.append("" if name == first else f"{gain.mean:+.2f} [{gain.low:.2f}, {gain.high:.2f}]")
        cells += [
            *(f"{fmean(run[split][name] for run in runs):.1f}%" for name in percents),
            f"{fmean(run[split]['length'] for run in runs):.2f}",
            f"{fmean(sum(run['seconds'].values()) for run in runs):.0f}",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def deviation(results: Sequence[Result], split: Split, column: str) -> float:
    """The standard deviation of the seeds' means; 0 of a single one."""
    means = [fmean(result[split][column]) for result in results]
    return stdev(means) if len(means) > 1 else 0.0
