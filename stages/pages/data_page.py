"""The page on what the data looks like: raw, clean and augmented side by side."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

import pandas as pd

from stages.core.params import Prompt
from stages.pages.histogram import Histograms, histograms
from stages.pages.phrase import say
from stages.pages.rendering import render
from stages.pages.sampled_texts import (
    Frames,
    augmented_rows,
    corrected_typos,
    outlying_rows,
    rejected_answers,
    removed_noise,
)
from stages.pages.table_profile import Profile, percent_over, profile, quantiles, topic_words

Profiles = Mapping[tuple[str, str], Profile]
NumberTable = Mapping[str, Mapping[str, Mapping[str, float | None]]]
"""Numbers by group of columns, column and row; every column has the same rows."""
T = TypeVar("T")


@dataclass(frozen=True)
class DataReports:
    """What the stages before said of the data."""

    cleaning: Mapping[str, Any]
    """metrics/data/cleaning.json: by split, the rows and replacements of each step, rule and the typos."""
    checks: Mapping[str, Mapping[str, int]]
    """metrics/data/checks.json: by split, rows, kept, and the findings of each check."""
    removed: pd.DataFrame
    warned: pd.DataFrame
    """Findings by row: fname, table, check, detail."""
    augmentation: Mapping[str, Any]
    """metrics/data/augmentation.json: the merged rows of each source, and those left out."""
    rejected: pd.DataFrame
    """Generated rows that are not used: method, origin, reason, dialogue, summary."""


def render_exploration(
    frames: Frames, tokens: Mapping[str, int], prompt: Prompt, reports: DataReports, apply_rules: Callable[[str], str]
) -> str:
    """The page.

    Args:
        tokens: the length in tokens of every text in the tables, and of the instruction.
        apply_rules: cleans a raw dialogue by the rules alone, without the typos.
    """
    profiles = {column: profile(frame, tokens, prompt.instruction) for column, frame in frames.items()}
    raw, clean, original = (frames["train", version] for version in ("raw", "clean", "original"))
    limits = sorted({256, 512, 1024, 2048, prompt.max_tokens})
    return render(
        "explore.html",
        rows=row_counts(profiles, reports.augmentation),
        lengths=lengths(profiles),
        max_tokens=prompt.max_tokens,
        truncation=by_split({column: percent_over(each.prompts, limits) for column, each in profiles.items()}),
        masks=by_split({column: each.masks for column, each in profiles.items()}),
        noise=by_split({column: each.noise for column, each in profiles.items()}),
        topics=topic_counts(clean),
        outliers=outlying_rows(original),
        cleaning=cleaning_counts(reports.cleaning),
        removed_noise=removed_noise(raw, clean),
        typos=corrected_typos(raw, clean, apply_rules),
        checks=check_counts(reports),
        augmented=augmented_rows(frames),
        rejected=rejected_answers(reports.rejected),
    )


def by_split(values: Mapping[tuple[str, str], T]) -> dict[str, dict[str, T]]:
    """The values by split, and in it by version."""
    nested: dict[str, dict[str, T]] = {}
    for (split, version), value in values.items():
        nested.setdefault(split, {})[version] = value
    return nested


@dataclass(frozen=True)
class RowCounts:
    counts: NumberTable
    sources: Mapping[str, int]
    """The merged training rows of each source."""
    left_out: Mapping[str, int]
    """The rows that augment.balance left out of each source, where it did."""


def row_counts(profiles: Profiles, augmentation: Mapping[str, Any]) -> RowCounts:
    return RowCounts(
        counts=by_split({column: each.counts for column, each in profiles.items()}),
        sources={source: n for source, n in augmentation.items() if isinstance(n, int) and source != "total"},
        left_out={source: count for source, count in augmentation["left_out"].items() if count},
    )


@dataclass(frozen=True)
class Lengths:
    train: Histograms | None
    """Of the training rows, by version."""
    quantiles: NumberTable
    """Of every table."""


def lengths(profiles: Profiles) -> dict[str, Lengths]:
    """How the values of each measure are spread."""
    measured = {}
    for name in profiles["train", "raw"].measures:
        values = {column: each.measures[name] for column, each in profiles.items()}
        train = {version: of for (split, version), of in values.items() if split == "train"}
        table = by_split({column: quantiles(of) for column, of in values.items()})
        measured[name] = Lengths(histograms(train), table)
    return measured


@dataclass(frozen=True)
class TopicCounts:
    rows: int
    different: int
    once: int
    """Topics of one row."""
    words: Mapping[str, int]
    """The words that most topics hold, and in how many rows."""


def topic_counts(clean: pd.DataFrame) -> TopicCounts | None:
    """The topics of the training rows; None where the table has none."""
    if "topic" not in clean:
        return None
    times = clean["topic"].value_counts()
    return TopicCounts(len(clean), len(times), int(sum(times == 1)), topic_words(clean["topic"]))


@dataclass(frozen=True)
class CleaningCounts:
    splits: Mapping[str, Any]
    counts: NumberTable
    """By split, the rows and replacements of each step, rule and the typos, where they changed anything."""
    unused: list[str]
    """What changed nothing in any split."""


def cleaning_counts(splits: Mapping[str, Any]) -> CleaningCounts:
    by_rule = {split: {**each["rules"], "typos": each["typos"]} for split, each in splits.items()}
    names = list(next(iter(by_rule.values())))
    used = [name for name in names if any(each[name]["replacements"] for each in by_rule.values())]
    kinds: list[str] = [say("rows", "행"), say("replacements", "고친 곳")]
    counts = {
        split: {kind: {name: each[name][kind] for name in used} for kind in kinds} for split, each in by_rule.items()
    }
    return CleaningCounts(splits, counts, [name for name in names if name not in used])


@dataclass(frozen=True)
class CheckCounts:
    splits: Mapping[str, Mapping[str, int]]
    counts: NumberTable
    """By split, how often each check found something, and what became of it; None where it does not check."""
    findings: Mapping[str, list[dict[str, str]]]
    """The first `few` findings of each check, by what became of them."""
    few: int


def check_counts(reports: DataReports, few: int = 3) -> CheckCounts:
    names = [name for name in reports.checks["train"] if name not in ("rows", "kept")]
    removed = say("removed", "지움")
    actions = {removed: _by_check(reports.removed), say("warned", "경고"): _by_check(reports.warned)}
    counts: dict[str, dict[str, dict[str, float | None]]] = {}
    for split, each in reports.checks.items():
        counts[split] = {say("found", "찾음"): {name: each.get(name) for name in names}}
        for action, times in actions.items():
            if action != removed or split not in ("dev", "test"):
                counts[split][action] = {name: times[split, name] if name in each else None for name in names}
    found: dict[str, pd.DataFrame] = {
        say("Removed", "지운 행"): reports.removed,
        say("Warned of", "경고한 행"): reports.warned,
    }
    first = {
        action: frame.groupby("check", sort=False).head(few).to_dict("records")
        for action, frame in found.items()
        if len(frame)
    }
    return CheckCounts(reports.checks, counts, first, few)


def _by_check(found: pd.DataFrame) -> Counter[tuple[str, str]]:
    return Counter(zip(found["table"], found["check"], strict=True))
