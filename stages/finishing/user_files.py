"""The files of the user's own that a run reads."""

from __future__ import annotations

from pathlib import Path

from stages.core.params import Params


def user_files(params: Params) -> list[Path]:
    """The tables, those of `data.extra` too, and the rules that params.yaml names."""
    tables = [Path(params.data.source) / f"{split}.csv" for split in ("train", "dev", "test")]
    return [*tables, *(Path(table.path) for table in params.data.extra), Path(params.clean.rules)]
