"""Chooses among candidate summaries of one dialogue: the one most like all others, or the most Korean one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import Any

from stages.core.parallel import available_cores
from stages.core.params import Params
from stages.corpus.hangul import hangul_share
from stages.engines.settings import DecodingSettings
from stages.engines.writer import Sampling, Writer
from stages.scoring.objective import Objective

ALONE = {"rerank": "none", "samples": 0, "ensemble": [], "prompts": []}
"""How one adapter writes by its own instruction, whose search has the last word."""


def reranked_as(decoding: Mapping[str, Any], params: Params) -> Params:
    """The parameters with the rerank that `tune_decoding` chose; as they are where it weighed none.

    Args:
        decoding: the contents of metrics/eval/decoding.json.
    """
    if "rerank" not in decoding:
        return params
    chosen = decoding["rerank"] if decoding["rerank"]["rerank"] == "mbr" else ALONE
    return params.model_copy(update={"decoding": params.decoding.model_copy(update=chosen)})


def propose(
    writers: Sequence[Writer], dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling | None
) -> list[list[list[str]]]:
    """The candidates of each dialogue, by writer: what the search finds, best first, and then as many samples."""
    by_writer = [writer.candidates(dialogues, settings, sampling) for writer in writers]
    return [list(of) for of in zip(*by_writer, strict=True)]


def most_agreed(candidates: Sequence[Sequence[str]], objective: Objective) -> list[int]:
    """For each dialogue the candidate with the highest expected score against the others, the first of equals.

    Minimum Bayes risk decoding: what the candidates agree on is what a reference most likely says. A candidate that
    comes up several times counts as often.

    Args:
        candidates: of each dialogue, at least one.

    Returns:
        The position of the one that is chosen, of each dialogue.
    """
    return [of.index(max(of)) for of in agreement(candidates, objective)]


def agreement(candidates: Sequence[Sequence[str]], objective: Objective) -> list[list[float]]:
    """For each dialogue the expected score of each candidate against the others."""
    objective.analyse(list(chain.from_iterable(candidates)))
    # Most of the time goes to compiled code, which lets other threads run.
    with ThreadPoolExecutor(available_cores()) as pool:
        return list(pool.map(objective.utilities, candidates))


def most_korean(candidates: Sequence[str], least: float) -> int:
    """The position of the first candidate with at least that share of Hangul, or else of the one with the most."""
    shares = [hangul_share(candidate) for candidate in candidates]
    return next((i for i, share in enumerate(shares) if share >= least), shares.index(max(shares)))
