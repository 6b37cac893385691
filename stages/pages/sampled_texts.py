"""Texts of the tables that the page on the data shows; personal data in them is masked, whatever the checks did."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import pandas as pd

from stages.corpus.personal_data import mask_personal_data
from stages.corpus.spread import spread
from stages.pages.marked_text import Span, join_lines, mark_changes, mark_row
from stages.pages.phrase import say
from stages.pages.table_profile import changed_lines, extremes, most_cleaned

Frames = Mapping[tuple[str, str], pd.DataFrame]
"""Tables by split (train, dev, test) and version (raw, clean, merged, or a source of merged rows)."""
Passages = Mapping[str, list[Span]]
"""Texts by their headings."""


def outlying_rows(original: pd.DataFrame) -> dict[str, Passages]:
    """The rows that lie farthest out, by the way in which they do."""
    return {
        way: {
            say("{fname}: {how}", "{fname}: {how}", fname=fname, how=how): _row(dialogue, summary)
            for fname, how, dialogue, summary in few
        }
        for way, few in extremes(original).items()
    }


def removed_noise(raw: pd.DataFrame, clean: pd.DataFrame) -> Passages:
    """What was taken out and put in, in the dialogues that lost most kinds of noise."""
    return {fname: _changes(before, after) for fname, before, after in most_cleaned(raw, clean)}


@dataclass(frozen=True)
class CorrectedTypos:
    rows: int
    samples: Passages
    """The changed lines of some rows."""


def corrected_typos(
    raw: pd.DataFrame, clean: pd.DataFrame, apply_rules: Callable[[str], str], n: int = 12
) -> CorrectedTypos:
    """What correcting typos changed in dialogues that the rules had cleaned."""
    both = raw[["fname", "dialogue"]].merge(clean[["fname", "dialogue"]], on="fname")
    changed = both[both["dialogue_x"] != both["dialogue_y"]].itertuples(index=False, name=None)
    ruled = [(fname, apply_rules(before), after) for fname, before, after in changed]
    corrected = [row for row in ruled if row[1] != row[2]]
    samples = {
        fname: join_lines(_changes(was, is_now) for was, is_now in changed_lines(before, after))
        for fname, before, after in (corrected[row] for row in spread(len(corrected), n))
    }
    return CorrectedTypos(len(corrected), samples)


def augmented_rows(frames: Frames, few: int = 2) -> dict[str, Passages]:
    """Some rows of each source, each beside the original row that it was made from, if there is one."""
    original = frames["train", "original"].set_index("fname")
    samples: dict[str, Passages] = {}
    for source, frame in _augmented(frames):
        shown = {}
        rows = frame.sort_values("fname")[["fname", "dialogue", "summary"]].to_numpy().tolist()
        for fname, dialogue, summary in (rows[row] for row in spread(len(rows), few)):
            origin = fname.rpartition(".")[0]  # train_0.swap and train_0.para were made from train_0
            if origin in original.index:
                shown[origin] = _row(*original.loc[origin, ["dialogue", "summary"]])
            shown[fname] = _row(dialogue, summary)
        samples[source] = shown
    return samples


def _augmented(frames: Frames) -> Iterator[tuple[str, pd.DataFrame]]:
    for (split, version), frame in frames.items():
        if split == "train" and version not in ("raw", "clean", "original", "merged"):
            yield version, frame


@dataclass(frozen=True)
class RejectedAnswers:
    counts: Mapping[str, int]
    """By method and reason, the most frequent first."""
    samples: Passages


def rejected_answers(answers: pd.DataFrame, few: int = 6) -> RejectedAnswers:
    """Why generated rows were rejected, and the first of some reasons as text."""
    counts = answers.groupby(["method", "reason"]).size().sort_values(ascending=False, kind="stable")
    first: list[dict[str, str]] = answers.drop_duplicates(["method", "reason"]).head(few).to_dict("records")
    return RejectedAnswers(
        {f"{method}: {reason}": int(count) for (method, reason), count in counts.items()},
        {f"{row['origin']} ({row['method']}): {row['reason']}": _row(row["dialogue"], row["summary"]) for row in first},
    )


def _mask(text: str) -> str:
    return mask_personal_data(text)[0]


def _row(dialogue: str, summary: str) -> list[Span]:
    return mark_row(_mask(dialogue), _mask(summary))


def _changes(before: str, after: str) -> list[Span]:
    return mark_changes(_mask(before), _mask(after))
