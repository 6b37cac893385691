"""The page on what the data looks like: raw, clean and augmented side by side.

Whatever text of the tables it shows has its personal data masked, whatever the checks did about it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from markupsafe import Markup

from stages.core.params import Prompt
from stages.corpus.personal_data import mask_personal_data
from stages.corpus.spread import spread
from stages.pages import html_parts
from stages.pages.table_profile import (
    Profile,
    changed_lines,
    extremes,
    most_cleaned,
    percent_over,
    profile,
    quantiles,
    topic_words,
)

Frames = Mapping[tuple[str, str], pd.DataFrame]
"""Tables by split (train, dev, test) and version (raw, clean, merged, or a source of merged rows)."""
Profiles = Mapping[tuple[str, str], Profile]


@dataclass(frozen=True)
class DataReports:
    """What the stages before said of the data."""

    cleaning: Mapping[str, Any]
    """metrics/data/cleaning.json: by split, the rows and replacements of each step, rule and the typos."""
    checks: Mapping[str, Mapping[str, int]]
    """metrics/data/checks.json: by split, rows, kept, and the findings of each check."""
    removed: pd.DataFrame
    warned: pd.DataFrame
    """DataReports by row: fname, table, check, detail."""
    augmentation: Mapping[str, Any]
    """metrics/data/augmentation.json: the merged rows of each source, and those left out."""
    rejected: pd.DataFrame
    """Generated rows that are not used: method, origin, reason, dialogue, summary."""


def explore(
    frames: Frames, tokens: Mapping[str, int], prompt: Prompt, findings: DataReports, apply_rules: Callable[[str], str]
) -> str:
    """The page.

    Args:
        tokens: the length in tokens of every text in the tables, and of the instruction.
        apply_rules: cleans a raw dialogue by the rules alone, without the typos.
    """
    profiles = {column: profile(frame, tokens, prompt.instruction) for column, frame in frames.items()}
    raw, clean, original = (frames["train", version] for version in ("raw", "clean", "original"))
    lead = (
        "Every table as it was ingested (raw) and after cleaning (clean); of the training rows, those that passed the "
        "checks (original), the augmented ones by source, and all that training sees (merged). "
        "Personal data in texts is masked."
    )
    note = html_parts.paragraph("Occurrences in dialogues and references.")
    sections = {
        "Rows": rows(profiles, findings.augmentation),
        "Lengths": lengths(profiles),
        "Truncation": truncation(profiles, prompt.max_tokens),
        "Masks": note + html_parts.table({column: each.masks for column, each in profiles.items()}),
        "Noise": note + html_parts.table({column: each.noise for column, each in profiles.items()}),
        "Topics": topics(clean),
        "Outliers": outliers(original),
        "Cleaning": cleaning(findings.cleaning) + rule_samples(raw, clean) + typo_samples(raw, clean, apply_rules),
        "Checks": checks(findings),
        "Augmentation": augmented_samples(frames) + rejected(findings.rejected),
    }
    return html_parts.page("What the data looks like", lead, sections)


def rows(profiles: Profiles, augmentation: Mapping[str, Any]) -> Markup:
    counts = html_parts.table({column: each.counts for column, each in profiles.items()})
    left_out = {source: count for source, count in augmentation["left_out"].items() if count}
    sources = html_parts.bars({source: augmentation[source] for source in ("original", *augmentation["left_out"])})
    if left_out:
        listed = ", ".join(f"{count:,} {source}" for source, count in left_out.items())
        sources += html_parts.paragraph(f"Left out by augment.balance: {listed}.")
    return counts + html_parts.heading("Merged training rows by source") + sources


def lengths(profiles: Profiles) -> Markup:
    """For each measure, histograms of the training rows and quantiles of every table."""
    part = html_parts.paragraph("Charts: training rows; the last bar takes in all that is longer. Tables: all.")
    for name in profiles["train", "raw"].measures:
        values = {column: each.measures[name] for column, each in profiles.items()}
        train = {version: values[split, version] for split, version in values if split == "train"}
        part += html_parts.heading(name) + html_parts.histograms(train)
        part += html_parts.table({column: quantiles(of) for column, of in values.items()})
    return part


def truncation(profiles: Profiles, max_tokens: int) -> Markup:
    note = (
        "Percentage of rows whose instruction and dialogue have more tokens than a limit; few-shot examples "
        f"and the prompt's layout come on top. prompt.max_tokens is {max_tokens:,}."
    )
    limits = sorted({256, 512, 1024, 2048, max_tokens})
    over = {column: percent_over(each.prompts, limits) for column, each in profiles.items()}
    return html_parts.paragraph(note) + html_parts.table(over)


def topics(clean: pd.DataFrame) -> Markup:
    if "topic" not in clean:
        return html_parts.paragraph("The training table has no topics.")
    times = clean["topic"].value_counts()
    note = (
        f"{len(times):,} different topics in {len(clean):,} training rows; {sum(times == 1):,} of these "
        "topics have one row only. The words that most topics hold, and in how many rows:"
    )
    return html_parts.paragraph(note) + html_parts.bars(topic_words(clean["topic"]))


def outliers(original: pd.DataFrame) -> Markup:
    part = html_parts.paragraph("Training rows that passed the checks.")
    for name, few in extremes(original).items():
        shown = {f"{fname}: {how}": _row(dialogue, summary) for fname, how, dialogue, summary in few}
        part += html_parts.heading(name) + html_parts.texts(shown)
    return part


def cleaning(counts: Mapping[str, Any]) -> Markup:
    """What each step, each rule and the typos changed, and which of them changed nothing."""
    changed = ", ".join(f"{split} {each['changed']:,} of {each['rows']:,}" for split, each in counts.items())
    by_split = {split: {**each["rules"], "typos": each["typos"]} for split, each in counts.items()}
    names = list(next(iter(by_split.values())))
    used = [name for name in names if any(each[name]["replacements"] for each in by_split.values())]
    part = html_parts.paragraph(f"Rows changed: {changed}. By step and rule:")
    part += html_parts.table(
        {
            (split, kind): {name: each[name][kind] for name in used}
            for split, each in by_split.items()
            for kind in ("rows", "replacements")
        }
    )
    unused = [name for name in names if name not in used]
    return part + html_parts.paragraph(f"Nothing to replace: {', '.join(unused)}.") if unused else part


def rule_samples(raw: pd.DataFrame, clean: pd.DataFrame) -> Markup:
    note = "What was taken out and put in, in the training dialogues that lost most kinds of noise."
    changes = {fname: _diff(before, after) for fname, before, after in most_cleaned(raw, clean)}
    return html_parts.heading("Samples") + html_parts.paragraph(note) + html_parts.texts(changes)


def typo_samples(raw: pd.DataFrame, clean: pd.DataFrame, apply_rules: Callable[[str], str], n: int = 12) -> Markup:
    """What correcting typos changed in dialogues that the rules had cleaned."""
    both = raw[["fname", "dialogue"]].merge(clean[["fname", "dialogue"]], on="fname")
    changed = both[both["dialogue_x"] != both["dialogue_y"]].itertuples(index=False, name=None)
    ruled = [(fname, apply_rules(before), after) for fname, before, after in changed]
    corrected = [row for row in ruled if row[1] != row[2]]
    some = [corrected[row] for row in spread(len(corrected), n)]
    note = f"Typos were corrected in {len(corrected):,} training dialogues; the changed lines of {len(some):,}:"
    shown = {
        fname: Markup("\n").join(_diff(was, is_now) for was, is_now in changed_lines(before, after))
        for fname, before, after in some
    }
    return html_parts.heading("Typos") + html_parts.paragraph(note) + html_parts.texts(shown)


def checks(findings: DataReports, few: int = 3) -> Markup:
    """How often each check found something, what became of it, and the first findings of each check."""
    kept = "; ".join(f"{split} {each['kept']:,} of {each['rows']:,}" for split, each in findings.checks.items())
    actions = {"removed": _by_check(findings.removed), "warned": _by_check(findings.warned)}
    names = [name for name in findings.checks["train"] if name not in ("rows", "kept")]
    columns: dict[tuple[str, str], dict[str, float | None]] = {}
    for split, each in findings.checks.items():
        columns[split, "found"] = {name: each.get(name) for name in names}
        for action, counts in actions.items():
            if action == "warned" or split == "train":
                columns[split, action] = {name: counts[split, name] if name in each else None for name in names}
    part = html_parts.paragraph(f"Rows kept: {kept}. Rows of dev and test are never removed.") + html_parts.table(
        columns
    )
    for action, frame in (("Removed", findings.removed), ("Warned of", findings.warned)):
        if len(frame):
            note = f"The first {few} of each check; data/checked has them all."
            part += html_parts.heading(action) + html_parts.paragraph(note)
            part += html_parts.records(frame.groupby("check", sort=False).head(few))
    return part


def _by_check(found: pd.DataFrame) -> Counter[tuple[str, str]]:
    return Counter(zip(found["table"], found["check"], strict=True))


def augmented_samples(frames: Frames, few: int = 2) -> Markup:
    """Some rows of each source, each beside the original row that it was made from, if there is one."""
    original = frames["train", "original"].set_index("fname")
    part = Markup()
    for name, frame in _augmented(frames):
        shown = {}
        texts = _texts(frame.sort_values("fname"))
        for fname, dialogue, summary in (texts[row] for row in spread(len(texts), few)):
            origin = fname.rpartition(".")[0]  # train_0.swap and train_0.para were made from train_0
            if origin in original.index:
                shown[origin] = _row(*original.loc[origin, ["dialogue", "summary"]])
            shown[fname] = _row(dialogue, summary)
        part += html_parts.heading(f"Samples: {name}") + html_parts.texts(shown)
    return part or html_parts.paragraph("No augmented rows.")


def _augmented(frames: Frames) -> Iterator[tuple[str, pd.DataFrame]]:
    for (split, version), frame in frames.items():
        if split == "train" and version not in ("raw", "clean", "original", "merged"):
            yield version, frame


def _texts(frame: pd.DataFrame) -> list[tuple[str, str, str]]:
    return list(zip(frame["fname"], frame["dialogue"], frame["summary"], strict=True))


def rejected(answers: pd.DataFrame, few: int = 6) -> Markup:
    """Why generated rows were rejected, and some of them as text."""
    part = html_parts.heading("Rejected")
    if not len(answers):
        return part + html_parts.paragraph("No generated row was rejected.")
    counts = answers.groupby(["method", "reason"]).size().sort_values(ascending=False, kind="stable")
    part += html_parts.bars({f"{method}: {reason}": int(count) for (method, reason), count in counts.items()})
    first: Sequence[dict[str, str]] = answers.drop_duplicates(["method", "reason"]).head(few).to_dict("records")
    shown = {
        f"{row['origin']} ({row['method']}): {row['reason']}": _row(row["dialogue"], row["summary"]) for row in first
    }
    note = "The first answer rejected for each reason, under the name of the training row behind it."
    return part + html_parts.paragraph(note) + html_parts.texts(shown)


def _mask(text: str) -> str:
    return mask_personal_data(text)[0]


def _row(dialogue: str, summary: str) -> Markup:
    return html_parts.row(_mask(dialogue), _mask(summary))


def _diff(before: str, after: str) -> Markup:
    return html_parts.diff(_mask(before), _mask(after))
