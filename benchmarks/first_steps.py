"""The pipeline on a table as long as the competition's, up to the first training steps, beside what it promised.

    python -m benchmarks.first_steps [--rows 12457] [--steps 50] [--recipe sample]

The table is made from the sample by recombining its turns. Each stage runs as the pipeline runs it, in a temporary
folder. Before its first step, training says how long it will take; this says how long it would by the steps it made,
the first two left out.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.data import HELD_OUT, SAMPLE, recombined, write
from benchmarks.pipeline_runs import DATA_STAGES, find_stages, make_project, run_stages, settings_of
from stages.core.errors import UserError, run_stage

LOSSES = "*/plots/metrics/train/loss.tsv"
"""Where DVCLive writes a line for each step, within models/."""
WARM_UP = 2
PROMISE = "Training: "


def make_tables(folder: Path, rows: int) -> None:
    """Training, dev and test tables; dev and test are as long as the competition's."""
    folder.mkdir()
    for seed, (split, size) in enumerate((("train", rows), ("dev", HELD_OUT), ("test", HELD_OUT))):
        write(folder / f"{split}.csv", recombined([SAMPLE], size, split, seed))


def train(folder: Path, steps: int) -> tuple[str, float, float]:
    """Train for so many steps, then stop.

    Returns:
        What training said before its first step, the seconds before that step, and those of a step.

    Raises:
        UserError: training ended before.
    """
    log = folder / "train.log"
    began = time.perf_counter()
    with log.open("w") as errors:
        run = subprocess.Popen([sys.executable, "-m", "stages.train"], cwd=folder, stdout=errors, stderr=errors)
    times: list[float] = []
    while len(times) < steps:
        if run.poll() is not None:
            raise UserError(f"stages.train: ended after {len(times)} steps: {log.read_text().splitlines()[-1]}")
        logged = [path for path in (folder / "models").glob(LOSSES) if path.exists()]
        made = len(logged[0].read_text().splitlines()) - 1 if logged else 0
        times += [time.perf_counter()] * (made - len(times))
        time.sleep(0.02)
    run.terminate()  # Ctrl-C's signal is ignored by what a script starts in the background
    run.wait()
    promise = next(line for line in log.read_text().splitlines() if PROMISE in line)
    return (
        promise[promise.index(PROMISE) :],
        times[0] - began,
        (times[steps - 1] - times[WARM_UP - 1]) / (steps - WARM_UP),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=12_457)
    parser.add_argument("--steps", type=int, default=50)
    parser.add_argument("--recipe", default="sample")
    options = parser.parse_args()
    find_stages()
    with TemporaryDirectory() as name:
        folder = Path(name)
        make_tables(folder / "tables", options.rows)
        project = folder / "project"
        make_project(project, folder / "tables", settings_of(options.recipe))
        for stage in DATA_STAGES:
            for name, seconds in run_stages([stage], project).items():
                print(f"{name:14s}{seconds:8.1f} s", flush=True)
        promise, before, each = train(project, options.steps)
    print(promise)
    print(f"Measured: {before:.0f} s until the first step's end, {each:.2f} s a step in {options.steps} steps")
    steps = int(promise.split(" steps", 1)[0].rpartition(" ")[2].replace(",", ""))
    print(f"That is {steps * each / 3600:.2f} h for {steps:,} steps, evaluations not counted")


if __name__ == "__main__":
    run_stage(main)
