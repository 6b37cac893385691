"""Which dialogue a row of a merged table is, or is a copy or a translation of."""

from __future__ import annotations

import re

import pandas as pd

from stages.corpus.extra_rows import dialogue_id, is_extra

_REPEAT = re.compile(r"\.\d+$")
"""What a row that is taken several times has after its name."""


def origins(train: pd.DataFrame) -> pd.Series:
    """The fname of the original row behind each row of a merged table: of an original row its own.

    A copy is named after its origin, `train_7.swap`. A row of a further table, `english:train_7` or `english:train_7_1`
    of the source `extra:english`, has the origin of its own name, if there is one: another translation tells the same
    summary; else it has the name of its own dialogue. A row that is new has none.
    """
    originals = set(train["fname"][train["source"] == "original"])
    found = [_origin(fname, source, originals) for fname, source in zip(train["fname"], train["source"], strict=True)]
    return pd.Series(found, index=train.index, dtype="str")


def _origin(fname: str, source: str, originals: set[str]) -> str:
    if source == "original":
        return fname
    if not is_extra(source):
        return fname.rpartition(".")[0]
    own = fname.partition(":")[2]
    names = (own, own.rpartition(".")[0])
    return next((name for name in names if name in originals), dialogue_id(_REPEAT.sub("", fname), source))
