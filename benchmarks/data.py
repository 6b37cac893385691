"""Speed and memory of the data stages, on tables made from the sample by recombining its turns.

    python -m benchmarks.data [FOLDER ...] [--rows 12457 125000 1250000] [--typos]

FOLDERs hold further tables to take turns from. Each stage runs as the pipeline runs it, in a temporary folder;
its time for a row leaves out starting up, which a small table shows. Rows differ: a turn is the first half of one
and the second half of another.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

import pandas as pd
import psutil
from ruamel.yaml import YAML

from stages.cleaning.batch import clean_batch
from stages.cleaning.rules import STEPS, load_rules
from stages.core.files import write_json
from stages.core.parallel import available_cores, map_ordered
from stages.corpus.dialogue import Turn, parse_turns, render_turns
from stages.corpus.tables import AUGMENTED_COLUMNS, BATCH, read_table, writing_table

ROOT = Path(__file__).parents[1]
SAMPLE = ROOT / "data/sample"
RULES = ROOT / "data/rules/denoise.csv"
START_UP = 2_000
"""Rows of the small table: enough for the cleaning processes to start."""
REPEATED = 500_000
"""Rows from which a single run will do: it lasts as long as a core's speed takes to go up and down."""
RUNS = 5
HELD_OUT = 499
TYPO_ROWS = 12_457


class Cost(NamedTuple):
    """What a run took."""

    seconds: float
    cpu: float
    """Seconds of all cores, which other programs on the machine hardly change."""
    peak: float = 0.0
    """The most memory that its processes held at once, in MB."""


class Clock:
    """Measures this process and the children that have ended, from its making on."""

    def __init__(self) -> None:
        self._began, self._cpu = time.perf_counter(), self._cpu_now()

    def read(self) -> Cost:
        return Cost(time.perf_counter() - self._began, self._cpu_now() - self._cpu)

    @staticmethod
    def _cpu_now() -> float:
        usages = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def recombined(folders: Sequence[Path], rows: int, first: str = "train", seed: int = 0) -> Iterator[pd.DataFrame]:
    """Batches of rows with the lengths of real ones; another seed gives other rows."""
    tables = [read_table(folder / "train.csv", "train") for folder in folders]
    choose = random.Random(seed)
    rows_of = [
        [row for row in zip(table["dialogue"], table["summary"], strict=True) if parse_turns(row[0])]
        for table in tables
    ]
    turns_of = [[turn.text for dialogue, _ in table for turn in parse_turns(dialogue)] for table in rows_of]
    for start in range(0, rows, BATCH):
        batch = []
        for i in range(start, min(start + BATCH, rows)):
            table = choose.randrange(len(tables))
            origin, summary = choose.choice(rows_of[table])
            turns = [Turn(turn.speaker, halves(turns_of[table], choose)) for turn in parse_turns(origin)]
            batch.append([f"{first}_{i}", render_turns(turns), summary, ""])
        yield pd.DataFrame(batch, columns=AUGMENTED_COLUMNS[:4], dtype="str")


def halves(turns: list[str], choose: random.Random) -> str:
    one, other = choose.choice(turns).split(" "), choose.choice(turns).split(" ")
    return " ".join([*one[: (len(one) + 1) // 2], *other[len(other) // 2 :]])


def make_project(folder: Path, sources: Sequence[Path], rows: int, *, fix_typos: bool) -> None:
    """Write parameters and tables: `rows` training rows, and a row with speakers exchanged for every fourth."""
    yaml = YAML()
    params = yaml.load(ROOT / "params.yaml")
    params["data"].update(source="data/raw", limit=0)
    params["clean"].update(rules=str(RULES), fix_typos=fix_typos)
    (folder / "data/raw").mkdir(parents=True)
    yaml.dump(params, folder / "params.yaml")
    for split, count in (("train", rows), ("dev", HELD_OUT), ("test", HELD_OUT)):
        write(folder / f"data/raw/{split}.csv", recombined(sources, count, split))
    for source, count in (("paraphrase", 0), ("speaker_swap", rows // 4), ("synthetic", 0)):
        write(folder / f"data/augmented/{source}.csv", recombined(sources, count, source))
    for source in ("paraphrase", "synthetic"):
        (folder / f"data/augmented/{source}.rejected.csv").write_text("fname,reason,text\n")
        write_json(folder / f"data/augmented/{source}.json", {"rejected": {}, "llm": {}})


def write(path: Path, batches: Iterator[pd.DataFrame]) -> None:
    with writing_table(path, AUGMENTED_COLUMNS[:4]) as writer:
        for batch in batches:
            writer.write(batch)


def run_stage(name: str, folder: Path) -> Cost:
    """Run a stage as the pipeline does."""
    clock = Clock()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "-m", f"stages.{name}"], cwd=folder, env=environment, stderr=subprocess.PIPE, text=True
    ) as stage:
        peak = [0]
        watcher = threading.Thread(target=watch_memory, args=(psutil.Process(stage.pid), peak))
        watcher.start()
        _, errors = stage.communicate()
        watcher.join()
    if stage.returncode:
        raise SystemExit(f"{name}: {errors}")
    return clock.read()._replace(peak=peak[0] / 1e6)


def watch_memory(process: psutil.Process, peak: list[int]) -> None:
    """Keep the most resident bytes of a process and its children in `peak[0]`, until it ends."""
    while process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
        total = 0
        for each in [process, *children(process)]:
            try:
                total += each.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        peak[0] = max(peak[0], total)
        time.sleep(0.05)


def children(process: psutil.Process) -> list[psutil.Process]:
    try:
        return list(process.children(recursive=True))
    except psutil.NoSuchProcess:
        return []


def run_stages(sources: Sequence[Path], rows: int, *, fix_typos: bool = False) -> dict[str, Cost]:
    """Run the data stages on a table made for them."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_project(folder, sources, rows, fix_typos=fix_typos)
        results = {stage: run_stage(stage, folder) for stage in ("ingest", "clean")}
        (folder / "data/clean").rename(folder / "data/checked")
        results["merge"] = run_stage("merge", folder)
    return results


def compare_with_pandas(sources: Sequence[Path], rows: int) -> None:
    """All steps and rules on dialogues: ours on all cores, and `str.replace` in pandas for one after another."""
    rules = load_rules(RULES)
    batches = [batch.drop(columns="summary") for batch in recombined(sources, rows)]
    clean = partial(clean_batch, path=SAMPLE, split="test", rules=rules, fix_spacing=True, typo_threshold=None)
    costs: dict[str, Cost] = {}
    for workers in sorted({1, available_cores()}):
        clock = Clock()
        for _ in map_ordered(clean, batches, workers):
            pass
        costs[f"ours, processes: {workers}"] = clock.read()
    dialogues = pd.concat(batches)["dialogue"]
    for label, steps in (("pandas, steps and rules", [*STEPS, *rules]), ("pandas, rules alone", rules)):
        texts = dialogues
        clock = Clock()
        for step in steps:
            texts = texts.str.replace(step.pattern.pattern, step.replacement, regex=True)
        costs[label] = clock.read()
    peer = costs["pandas, steps and rules"]
    print(f"\n{rows:,d} dialogues           seconds  cpu us/row    rows/s   faster than pandas (cpu)")
    for label, cost in costs.items():
        ratios = f"{peer.seconds / cost.seconds:9.1f} ({peer.cpu / cost.cpu:.1f})"
        print(f"{label:26s}{cost.seconds:10.1f}{cost.cpu / rows * 1e6:12.0f}{rows / cost.seconds:10,.0f}{ratios}")


def typical(sources: Sequence[Path], rows: int) -> dict[str, Cost]:
    """The mean of some runs: the same work takes a third more or less from one run to the next."""
    runs = [run_stages(sources, rows) for _ in range(RUNS)]
    return {stage: Cost(*map(fmean, zip(*(run[stage] for run in runs), strict=True))) for stage in runs[0]}


def print_stages(sources: Sequence[Path], sizes: Sequence[int]) -> None:
    """Print a line for each stage and size; the times for a row are of those beyond the small table's."""
    small = typical(sources, START_UP)
    print(f"{'stage':8s}{'rows':>10s}{'seconds':>10s}{'rows/s':>10s}{'us/row':>9s}{'cpu us/row':>12s}{'peak MB':>9s}")
    for rows in sizes:
        for stage, cost in (typical if rows < REPEATED else run_stages)(sources, rows).items():
            more = rows - START_UP
            each, cpu = (cost.seconds - small[stage].seconds) / more, (cost.cpu - small[stage].cpu) / more
            print(
                f"{stage:8s}{rows:10,d}{cost.seconds:10.1f}{1 / each:10,.0f}{each * 1e6:9.0f}{cpu * 1e6:12.0f}"
                f"{cost.peak:9.0f}",
                flush=True,
            )


def print_typos() -> None:
    """Typo fixing on Korean rows alone: those without Hangul cost nothing."""
    without = run_stages([SAMPLE], TYPO_ROWS)
    fixing = run_stages([SAMPLE], TYPO_ROWS, fix_typos=True)
    seconds, cpu = (fixing["clean"][i] - without["clean"][i] for i in (0, 1))
    print(
        f"\ntypos, {TYPO_ROWS:,d} rows: {seconds:.0f} s, {TYPO_ROWS / seconds:.0f} rows/s, "
        f"{cpu / TYPO_ROWS * 1e6:.0f} cpu us/row, {cpu / sum(cost.cpu for cost in fixing.values()):.0%} of the three "
        f"stages' cpu; clean's peak {fixing['clean'].peak:.0f} MB"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Speed and memory of the data stages.")
    parser.add_argument("folders", nargs="*", type=Path, help="further folders with a train.csv to take turns from")
    parser.add_argument("--rows", nargs="+", type=int, default=[12_457, 125_000], help="sizes of the training table")
    parser.add_argument("--typos", action="store_true", help="measure typo fixing too, which takes minutes")
    arguments = parser.parse_args()
    sources = [SAMPLE, *(folder.resolve() for folder in arguments.folders)]
    print_stages(sources, arguments.rows)
    compare_with_pandas(sources, min(max(arguments.rows), 125_000))
    if arguments.typos:
        print_typos()


if __name__ == "__main__":
    main()
