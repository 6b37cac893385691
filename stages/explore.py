"""Draw what the data looks like, raw, clean and augmented, as one self-contained page.

python -m stages.explore
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from markupsafe import Markup
from transformers import PreTrainedTokenizerBase

from stages.common import figures
from stages.common.errors import run_stage
from stages.common.files import write_text
from stages.common.model import load_tokenizer
from stages.common.params import Prompt, load_params
from stages.common.profile import (
    Profile,
    most_cleaned,
    percent_over,
    profile,
    quantiles,
    texts,
    topic_words,
)
from stages.common.tables import Split, read_table

logger = logging.getLogger(__name__)

PAGE = Path("metrics/figures/explore.html")
TABLES: dict[tuple[Split, str], Path] = {
    ("train", "raw"): Path("data/ingested/train.csv"),
    ("train", "clean"): Path("data/clean/train.csv"),
    ("train", "merged"): Path("data/merged/train.csv"),
    ("dev", "raw"): Path("data/ingested/dev.csv"),
    ("dev", "clean"): Path("data/clean/dev.csv"),
    ("test", "raw"): Path("data/ingested/test.csv"),
    ("test", "clean"): Path("data/clean/test.csv"),
}
Profiles = Mapping[tuple[str, str], Profile]  # by split and version, as in TABLES


def count_tokens(tokenizer: PreTrainedTokenizerBase, different: Sequence[str]) -> dict[str, int]:
    """The length of each text in tokens, special tokens not counted."""
    ids = tokenizer(list(different), add_special_tokens=False)["input_ids"]
    return {text: len(row) for text, row in zip(different, ids, strict=True)}


def explore(frames: Mapping[tuple[str, str], pd.DataFrame], tokens: Mapping[str, int], prompt: Prompt) -> str:
    """The page; `tokens` holds the length in tokens of every text in the tables, and of the instruction."""
    profiles = {column: profile(frame, tokens, prompt.instruction) for column, frame in frames.items()}
    raw, clean, merged = (frames["train", version] for version in ("raw", "clean", "merged"))
    lead = (
        "Every table as it was ingested (raw) and after cleaning (clean), and the training rows together "
        "with the augmented ones (merged)."
    )
    note = figures.paragraph("Occurrences in dialogues and references.")
    sections = {
        "Rows": rows(profiles, merged),
        "Lengths": lengths(profiles),
        "Truncation": truncation(profiles, prompt.max_tokens),
        "Masks": note + figures.table({column: each.masks for column, each in profiles.items()}),
        "Noise": note + figures.table({column: each.noise for column, each in profiles.items()}),
        "Topics": topics(clean),
        "Outliers": outliers(clean),
        "Cleaning": cleaning(raw, clean),
    }
    return figures.page("What the data looks like", lead, sections)


def rows(profiles: Profiles, merged: pd.DataFrame) -> Markup:
    counts = figures.table({column: each.counts for column, each in profiles.items()})
    sources = figures.bars(dict(Counter(merged["source"]).most_common()))
    return counts + figures.heading("Merged training rows by source") + sources


def lengths(profiles: Profiles) -> Markup:
    """For each measure, histograms of the training rows and quantiles of every table."""
    part = figures.paragraph("Charts: training rows; the last bar takes in all that is longer. Tables: all.")
    for name in profiles["train", "raw"].measures:
        values = {column: each.measures[name] for column, each in profiles.items()}
        train = {version: values[split, version] for split, version in values if split == "train"}
        part += figures.heading(name) + figures.histograms(train)
        part += figures.table({column: quantiles(of) for column, of in values.items()})
    return part


def truncation(profiles: Profiles, max_tokens: int) -> Markup:
    note = (
        "Percentage of rows whose instruction and dialogue have more tokens than a limit; few-shot examples "
        f"and the prompt's layout come on top. prompt.max_tokens is {max_tokens:,}."
    )
    limits = sorted({256, 512, 1024, 2048, max_tokens})
    over = {column: percent_over(each.prompts, limits) for column, each in profiles.items()}
    return figures.paragraph(note) + figures.table(over)


def topics(clean: pd.DataFrame) -> Markup:
    if "topic" not in clean:
        return figures.paragraph("The training table has no topics.")
    times = clean["topic"].value_counts()
    note = (
        f"{len(times):,} different topics in {len(clean):,} training rows; {sum(times == 1):,} of these "
        "topics have one row only. The words that most topics hold, and in how many rows:"
    )
    return figures.paragraph(note) + figures.bars(topic_words(clean["topic"]))


def outliers(clean: pd.DataFrame, n: int = 2) -> Markup:
    """The shortest and the longest training dialogues, in characters."""
    by_length = clean.sort_values("dialogue", key=lambda dialogues: dialogues.str.len(), kind="stable")
    part = Markup()
    for name, few in (("Shortest", by_length.head(n)), ("Longest", by_length.iloc[::-1].head(n))):
        shown = {
            f"{fname}: {len(text):,} characters": figures.dialogue(text)
            for fname, text in zip(few["fname"], few["dialogue"], strict=True)
        }
        part += figures.heading(f"{name} training dialogues") + figures.texts(shown)
    return part


def cleaning(raw: pd.DataFrame, clean: pd.DataFrame) -> Markup:
    note = "What cleaning took out and put in, in the training dialogues that lost most kinds of noise."
    changes = {fname: figures.diff(before, after) for fname, before, after in most_cleaned(raw, clean)}
    return figures.paragraph(note) + figures.texts(changes)


def main() -> None:
    prompt = load_params().prompt
    frames: dict[tuple[str, str], pd.DataFrame] = {
        (split, version): read_table(path, split) for (split, version), path in TABLES.items()
    }
    different = dict.fromkeys(text for frame in frames.values() for text in texts(frame))
    tokens = count_tokens(load_tokenizer(Path("models/base.json")), [prompt.instruction, *different])
    write_text(PAGE, explore(frames, tokens, prompt))
    logger.info("%s: %d tables, %d different texts", PAGE, len(frames), len(different))


if __name__ == "__main__":
    run_stage(main)
