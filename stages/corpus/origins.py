"""Which original training row an augmented one is a copy of."""

from __future__ import annotations

import pandas as pd


def origins(train: pd.DataFrame) -> pd.Series:
    """The fname of the original row behind each row of a merged table: of an original row its own.

    A copy is named after its origin, `train_7.swap`. A row of a further table, `english:train_7` of the source
    `extra:english`, has the origin of its own name, if there is one: another translation tells the same summary. A row
    that is new has none of the table's.
    """
    original, extra = train["source"] == "original", train["source"].str.startswith("extra:")
    own = train["fname"].where(~extra, train["fname"].str.partition(":")[2])
    is_origin = original | (extra & own.isin(train["fname"][original]))
    return own.where(is_origin, own.str.rpartition(".")[0])
