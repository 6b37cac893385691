"""Dialogues a second of one GPU and of all that are visible, as `infer` deals two tables to them.

    python -m benchmarks.several_gpus --output several.json   SOLAR's shape with random weights
    python -m benchmarks.several_gpus --layers 2 --rows 8 --gpus 2   a quick look, on the CPU too

All hold the same random weights in bf16, with an adapter of rank 16, and write the same batches. Summaries end after
lengths that are drawn, since random weights would stop anywhere. `same` counts the answers that equal those of one GPU,
token by token. Results are printed, and with --output written as JSON, after each search.
"""

from __future__ import annotations

import argparse
import copy
import random
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from benchmarks.infer import NEVER, adapted, dequantize
from benchmarks.random_models import SHAPES, random_model
from stages.core.files import write_json
from stages.core.gpus import visible_gpus
from stages.decoding.workers import Workers, workers
from stages.engines.batches import Limits, limits_for, queues
from stages.engines.beam_search import BeamSearch
from stages.engines.chains import Greedy
from stages.engines.decode_loop import decode_in_turn
from stages.engines.prefill import read_prefix, shared_prefix
from stages.engines.search import Search
from stages.engines.settings import DecodingSettings, Ending
from stages.engines.slot_cache import grouped_attention
from stages.layers.fused_layer import fuse_to_read

TABLES = 2
"""As dev and test."""
LONGEST = 96

Row = tuple[list[int], int]
"""A prompt's ids, and the tokens of its summary."""


def load(layers: int) -> PreTrainedModel:
    """A model that is ready to write, on the first GPU that this process sees."""
    config = copy.deepcopy(SHAPES["solar-10b"])
    config.num_hidden_layers = layers
    base = random_model(config, nf4=True)
    dequantize(base)
    model = adapted(base, as_we_do=True)
    fuse_to_read(model)
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return model


def draw(count: int) -> list[list[Row]]:
    """Tables of as many rows, with the lengths of everyday dialogues and their summaries."""
    chance = random.Random(0)

    def row() -> Row:
        length = min(1400, max(300, round(chance.gauss(800, 250))))
        ids = [1, *(chance.randrange(3, SHAPES["solar-10b"].vocab_size) for _ in range(length - 1))]
        return ids, min(LONGEST, max(16, round(chance.gauss(45, 15))))

    return [[row() for _ in range(count)] for _ in range(TABLES)]


def write(
    model: PreTrainedModel, tell: Callable[[int], object], rows: Sequence[Row], beams: int, limits: Limits
) -> list[list[int]]:
    """The ids that a search finds after each prompt; the first is the longest."""
    prompts = [ids for ids, _ in rows]
    endings = [Ending(NEVER, 0, length, length) for _, length in rows]
    searches: list[Search] = [BeamSearch(end, beams, [1.0]) if beams > 1 else Greedy(end) for end in endings]
    with grouped_attention(model):
        prefix = read_prefix(model, shared_prefix(prompts))
        settings = DecodingSettings(LONGEST, num_beams=beams)
        decode_in_turn(model, prompts, searches, settings, prefix, beams * LONGEST, limits)
    return [search.results()[0][0].ids for search in searches]


def warm(model: PreTrainedModel, rows: Sequence[Row], beams: int) -> None:
    write(model, print, [(rows[0][0], 8), *((ids[: len(rows[0][0])], 8) for ids, _ in rows[1:])], beams, Limits(64))


def limits_of(model: PreTrainedModel, batch: int) -> Limits:
    return limits_for(model, batch, "auto")


def measure(
    writing: Workers[PreTrainedModel], tables: Sequence[Sequence[Row]], beams: int, batch: int
) -> tuple[dict[str, Any], list[list[int]]]:
    """How fast the tables are written, and the answers."""
    writing.each(warm, tables[0][:4], beams)
    limits = writing.each(limits_of, batch)[0]
    rows = list(chain.from_iterable(tables))
    cut: list[list[int]] = []
    for table in tables:
        start = sum(map(len, cut))
        cut += [
            [start + row for row in each] for each in queues([len(ids) for ids, _ in table], beams * LONGEST, limits)
        ]
    calls = [([rows[row] for row in each], beams, limits) for each in cut]
    began = time.perf_counter()
    answers: dict[int, list[int]] = {}
    ended: dict[int, float] = {}
    for number, found in writing.deal(write, calls, lambda done: None):
        answers.update(zip(cut[number], found, strict=True))
        ended[number] = round(time.perf_counter() - began, 2)
    seconds = time.perf_counter() - began
    result = {
        "seconds": round(seconds, 2),
        "dialogues_per_second": round(len(rows) / seconds, 3),
        "batches": [len(each) for each in cut],
        "ended": [ended[number] for number in range(len(cut))],
    }
    return result, [answers[row] for row in range(len(rows))]


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, default=499, help="rows of each of the two tables; default 499, as dev has")
    parser.add_argument("--batch", type=int, default=64, help="rows at once; default 64, as params.yaml has")
    parser.add_argument("--beams", type=int, nargs="+", default=[1, 4], help="searches; default: 1 4")
    parser.add_argument("--layers", type=int, default=48, help="fewer for a quick look")
    parser.add_argument("--gpus", type=int, help="default: all that are visible")
    parser.add_argument("--output", type=Path, help="a JSON file for the results")
    given = parser.parse_args(arguments)
    gpus = visible_gpus() or [""] * (given.gpus or 2)
    gpus = gpus[: given.gpus]
    tables = draw(given.rows)
    report: dict[str, Any] = {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
        "torch": torch.__version__,
        "rows": given.rows,
        "gpus": {},
    }
    alone: dict[int, list[list[int]]] = {}
    for names in (gpus[:1], gpus):
        began = time.perf_counter()
        with workers(partial(load, given.layers), names) as writing:
            loaded = round(time.perf_counter() - began, 1)
            arms: dict[str, Any] = {"seconds_to_load": loaded}
            report["gpus"][len(names)] = arms
            for beams in given.beams:
                result, answers = measure(writing, tables, beams, given.batch)
                reference = alone.setdefault(beams, answers)
                same = sum(a == b for a, b in zip(answers, reference, strict=True))
                first = report["gpus"][1].get(f"{beams} beams", result)
                times = result["dialogues_per_second"] / first["dialogues_per_second"]
                arms[f"{beams} beams"] = {**result, "same": same, "times_one_gpu": round(times, 3)}
                print(f"{len(names)} GPUs, {beams} beams: {arms[f'{beams} beams']}", flush=True)
                if given.output is not None:
                    write_json(given.output, report)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


if __name__ == "__main__":
    main()
