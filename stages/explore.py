"""Draw what the data looks like, raw, clean and augmented, as one self-contained page and as data for DVC's plots.

python -m stages.explore
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import pandas as pd
from transformers import PreTrainedTokenizerBase

from stages.cleaning.rules import clean_dialogue, load_rules
from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import read_json, replacing, write_text
from stages.core.params import load_params
from stages.corpus.tables import Split, read_table
from stages.models.text_encoder import TextEncoder
from stages.models.tokenizer import load_tokenizer
from stages.pages.data_page import DataReports, render_exploration
from stages.pages.sampled_texts import Frames
from stages.pages.table_profile import histogram_table, texts

logger = logging.getLogger(__name__)

TABLES: dict[tuple[Split, str], Path] = {
    ("train", "raw"): paths.INGESTED / "train.csv",
    ("train", "clean"): paths.CLEAN / "train.csv",
    ("train", "merged"): paths.MERGED,
    ("dev", "raw"): paths.INGESTED / "dev.csv",
    ("dev", "clean"): paths.CLEAN / "dev.csv",
    ("test", "raw"): paths.INGESTED / "test.csv",
    ("test", "clean"): paths.CLEAN / "test.csv",
}
PLOTTED = ("raw", "clean", "merged")


def read_frames() -> dict[tuple[str, str], pd.DataFrame]:
    """All tables by split and version; before the merged one, its rows by source."""
    frames: dict[tuple[str, str], pd.DataFrame] = {}
    for (split, version), path in TABLES.items():
        frame = read_table(path, split)
        if version == "merged":
            frames |= {(split, str(source)): rows for source, rows in frame.groupby("source")}
        frames[split, version] = frame
    return frames


def read_reports() -> DataReports:
    return DataReports(
        cleaning=read_json(paths.CLEANING_METRICS),
        checks=read_json(paths.CHECK_METRICS),
        removed=read_text_table(paths.CHECKED / "removed.csv"),
        warned=read_text_table(paths.CHECKED / "warnings.csv"),
        augmentation=read_json(paths.AUGMENTATION_METRICS),
        rejected=read_text_table(paths.REJECTED),
    )


def read_text_table(path: Path) -> pd.DataFrame:
    """A table that is none of dialogues; every value is text."""
    return pd.read_csv(path, dtype="str", keep_default_na=False)


def count_tokens(tokenizer: PreTrainedTokenizerBase, different: Sequence[str]) -> dict[str, int]:
    """The length of each text in tokens, as a prompt has it: no special tokens, and none that a text spells."""
    ids = TextEncoder(tokenizer).encode_all(different)
    return {text: len(row) for text, row in zip(different, ids, strict=True)}


def plots(frames: Frames) -> Mapping[str, pd.DataFrame]:
    """What DVC draws, by the name of its file: the training rows' lengths in characters, as histograms."""
    return {
        column: histogram_table(
            {version: frames["train", version][column].str.len().tolist() for version in PLOTTED}, "characters"
        )
        for column in ("dialogue", "summary")
    }


def main() -> None:
    params = load_params()
    frames = read_frames()
    apply_rules = partial(
        clean_dialogue, rules=load_rules(Path(params.clean.rules)), fix_spacing=params.clean.fix_spacing
    )
    different = dict.fromkeys(text for frame in frames.values() for text in texts(frame))
    tokens = count_tokens(load_tokenizer(paths.MANIFEST), [params.prompt.instruction, *different])
    page = render_exploration(frames, tokens, params.prompt, read_reports(), apply_rules)
    with replacing(paths.DATA_PLOTS) as folder:
        folder.mkdir()
        for name, table in plots(frames).items():
            write_text(folder / f"{name}.tsv", table.to_csv(sep="\t", index=False, lineterminator="\n"))
    write_text(paths.EXPLORATION, page)
    logger.info(
        "%s: %d tables, %d different texts; lengths in %s",
        paths.EXPLORATION,
        len(frames),
        len(different),
        paths.DATA_PLOTS,
    )


if __name__ == "__main__":
    run_stage(main)
