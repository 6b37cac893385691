"""Divides training rows into folds, so that nothing of a fold is among what its adapter learns."""

from __future__ import annotations

import random
from collections.abc import Mapping

import pandas as pd

from stages.core.errors import UserError
from stages.corpus.near_duplicates import Index, similar_pairs
from stages.corpus.origins import origins


def divide(train: pd.DataFrame, n: int, seed: int, threshold: float) -> dict[str, int]:
    """The fold of each original row, by its fname; rows whose dialogues are alike are of one fold.

    Args:
        train: a merged table, in any order.
        n: folds, of nearly the same size.
        threshold: from this similarity on two dialogues are alike, see `near_duplicates`.

    Raises:
        UserError: there are not so many rows that differ.
    """
    original = train[train["source"] == "original"].sort_values("fname")
    fnames = original["fname"].tolist()
    groups = {position: [fname] for position, fname in enumerate(fnames)}
    for earlier, later, _ in similar_pairs(original["dialogue"].tolist(), threshold):
        groups[earlier] += groups.pop(later)
    if len(groups) < n:
        raise UserError(f"params.yaml: folds.n = {n}: the table has {len(groups)} original rows that differ; lower it")
    shuffled = list(groups.values())
    random.Random(seed).shuffle(shuffled)
    folds: list[list[str]] = [[] for _ in range(n)]
    for group in sorted(shuffled, key=len, reverse=True):
        min(folds, key=len).extend(group)
    of = {fname: number for number, fold in enumerate(folds) for fname in fold}
    return {fname: of[fname] for fname in fnames}


def without_fold(train: pd.DataFrame, folds: Mapping[str, int], number: int, threshold: float) -> pd.DataFrame:
    """What the adapter of a fold learns: none of the fold's rows, no dialogue like one, and no copy of either.

    Raises:
        UserError: nothing is left.
    """
    origin = origins(train)
    of = origin.map(folds)
    held_out = train[(train["source"] == "original") & (of == number)]
    index = Index(held_out["dialogue"].tolist(), threshold)
    alike = train["dialogue"].map(lambda dialogue: index.closest(dialogue) is not None).astype(bool)
    kept = train[(of != number) & ~alike & ~(origin.isin(origin[alike]) & (origin != ""))]
    if kept.empty:
        raise UserError(
            f"params.yaml: folds.n: all rows are of fold {number + 1} or like one of it; lower it, or raise "
            "check.near_duplicate_threshold"
        )
    return kept
