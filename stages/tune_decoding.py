"""Choose decoding settings by `evaluate.objective` on dev: `python -m stages.tune_decoding`.

Each half of the tuning rows chooses settings, by successive halving; the best on all rows is taken, of the two and the
fixed settings of params.yaml. Where chance may have decided, those win whose summaries repeat least and are nearest to
the references' length. What tuning gains over the fixed settings is told by cross-validation: each half is scored with
what the other half chose. With `decoding.tune_rerank` each half also weighs its best search against minimum Bayes risk
over that search's beams, with samples and without, of every adapter and instruction. With `decoding.rerank: learned`,
weights to rerank by are fitted on data/candidates.jsonl and cross-validated between its folds.
metrics/eval/decoding.json has the choice and all that was tried; metrics/eval/decoding has points for plots.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import partial
from itertools import chain
from operator import attrgetter
from typing import Any

from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import replacing, write_json
from stages.core.gpus import gpus_that_write, take_gpus
from stages.core.params import SEARCHED, SEARCHED_AS, Decoding, load_params
from stages.corpus.spread import spread
from stages.corpus.tables import read_table, references
from stages.decoding.choice import Average, best
from stages.decoding.evaluation import Evaluation, Reranked, Way
from stages.decoding.find_adapter import adapter_in_use, find_adapters
from stages.decoding.successive_halving import halve
from stages.decoding.workers import workers
from stages.engines.load_writers import load_ensemble
from stages.engines.settings import DecodingSettings, candidates, fixed_settings
from stages.retraining.fit_reranker import fit_reranker
from stages.scoring.candidates import read_candidates

logger = logging.getLogger(__name__)


def reranked(settings: DecodingSettings, decoding: Decoding, writers: int) -> list[Way]:
    """What is weighed against a search: reranking its beams, or the most beams that are tried, and samples of each.

    Args:
        writers: how many have candidates; two candidates alone always tie.
    """
    beams = max(settings.num_beams, *getattr(decoding, f"{SEARCHED_AS}num_beams"))
    widest = replace(settings, num_beams=beams)
    ways = [Reranked(base, samples) for base in (settings, widest) for samples in (0, decoding.samples)]
    return [way for way in dict.fromkeys(ways) if writers * (way.settings.num_beams + way.samples) > 2]


def choose(evaluate: Evaluation, settings: Sequence[DecodingSettings], fixed: Way) -> dict[str, Any]:
    """The best settings, what tuning gains, and all that was tried, as metrics/eval/decoding.json holds them."""
    decoding = evaluate.decoding
    rows = list(range(len(evaluate.dialogues)))
    halves = [half for half in (rows[::2], rows[1::2]) if half]
    searches = [best(found) for found in halve(settings, halves, evaluate.all, attrgetter("score"))]
    winners: list[Way] = list(searches)
    if decoding.tune_rerank:
        weighed = [[search, *reranked(search, decoding, evaluate.writers)] for search in searches]
        tried = evaluate.all(list(zip(weighed, halves, strict=True)))
        winners = [best(dict(zip(ways, found, strict=True))) for ways, found in zip(weighed, tried, strict=True)]
    contenders = list(dict.fromkeys([*winners, fixed]))
    chosen = best(dict(zip(contenders, evaluate(contenders, rows), strict=True)))
    logger.info("chosen on %d dialogues: %s; %s", len(rows), chosen, Average.of(evaluate([chosen], rows)[0]))
    report: dict[str, Any] = {"chosen": asdict(chosen.settings if isinstance(chosen, Reranked) else chosen)}
    if decoding.tune_rerank:
        report["rerank"] = {"rerank": "none", "samples": 0}
        if isinstance(chosen, Reranked):
            report["rerank"] = {"rerank": "mbr", "samples": chosen.samples}
    if len(halves) == 2:
        unseen = [evaluate([winner], half)[0] for winner, half in zip(winners, reversed(halves), strict=True)]
        after, before = Average.of(list(chain.from_iterable(unseen))), Average.of(evaluate([fixed], rows)[0])
        logger.info("cross-validated: %s; with the fixed settings: %s", after, before)
        report["cross_validated"] = {
            "samples": len(rows),
            "chosen": after.rounded(),
            "fixed": before.rounded(),
            "gain": round(after.score - before.score, 4),
        }
    others = [way for way in evaluate.known if isinstance(way, Reranked)]
    known = {way: list(evaluate.known[way].values()) for way in [*settings, fixed, *others]}
    report["tried"] = [
        {**described(way, decoding), "samples": len(outcomes), **Average.of(outcomes).rounded()}
        for way, outcomes in known.items()
    ]
    return report


def described(way: Way, decoding: Decoding) -> dict[str, Any]:
    """The settings of a way, and its reranking where that is weighed."""
    if isinstance(way, Reranked):
        return {**asdict(way.settings), "rerank": "mbr", "drawn": way.samples}
    return {**asdict(way), "rerank": "none", "drawn": 0} if decoding.tune_rerank else asdict(way)


def write_points(tried: Sequence[dict[str, Any]]) -> None:
    """One table for each setting: its value and the score, for all that was tried; dvc.yaml plots each."""
    with replacing(paths.DECODING_POINTS) as folder:
        folder.mkdir()
        for name in SEARCHED:
            lines = [f"{float(result[name]):g}\t{result['final']}\t{result['samples']}\n" for result in tried]
            (folder / f"{name}.tsv").write_text("value\tfinal\tsamples\n" + "".join(lines), encoding="utf-8")


def main() -> None:
    params = load_params()
    decoding = params.decoding
    fixed = fixed_settings(decoding)
    report: dict[str, Any] = {"chosen": asdict(fixed), "tried": []}
    reranker = fit_reranker(read_candidates(paths.CANDIDATES), params) if decoding.rerank == "learned" else None
    if decoding.tune:
        take_gpus(params)
        settings = candidates(decoding)
        dev = read_table(paths.DEV, "dev")
        rows = spread(len(dev), decoding.tune_samples)
        dialogues, refs = dev["dialogue"].tolist(), references(dev)
        others = find_adapters(decoding.ensemble) if decoding.tune_rerank else []
        prompts = decoding.prompts if decoding.tune_rerank else []
        load = partial(load_ensemble, params.quantization, [adapter_in_use(params), *others], prompts)
        is_reranked = decoding.tune_rerank and decoding.rerank == "mbr"
        with workers(load, gpus_that_write(decoding)) as writing:
            evaluate = Evaluation(writing, [dialogues[row] for row in rows], [refs[row] for row in rows], params)
            report = choose(evaluate, settings, Reranked(fixed, decoding.samples) if is_reranked else fixed)
    if reranker:
        logger.info("reranker on rows of other folds: %s", reranker["cross_validated"])
        report["reranker"] = reranker
    write_json(paths.DECODING, {"objective": params.evaluate.objective, **report})
    write_points(report["tried"])


if __name__ == "__main__":
    run_stage(main)
