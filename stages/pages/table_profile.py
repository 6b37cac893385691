"""What there is to say about a dialogue table: counts, lengths, masks and noise."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
import pandas as pd

from stages.corpus.dialogue import MASK_OR_SPEAKER, MASKS, parse_turns, speakers
from stages.corpus.tables import references
from stages.pages.histogram import bins, percentages

_MASK = re.compile(rf"#({'|'.join(MASKS)})#")
_TAG = r"(?:#(?:Person|사람)\d+#|#[A-Za-z가-힣]+(?: [A-Za-z가-힣]+){0,2}#)"

NOISE = {
    "literal \\n": r"\\n",
    "<br>": r"<br ?/?>",
    "carriage return": r"\r",
    "space before a newline": r"[ \t]+(?=\r?\n)",
    "doubled space": r"(?<=\S)[ \t]{2,}(?=\S)",
    "speaker inside a line": r"(?<=[^\n])(?<!\\n)(?<!<br>)#Person\d+#:",
    "other form of speaker": r"#사람\d+#|(?<!#)\bPerson\d+\b(?!#)",
    "orphan #": rf"(?!{_TAG})(?<!\$)#",
    "amount without digits": r"\$#,\d+",
    "digits behind a mask": r"(?<=[A-Za-z]#)\d+",
    "mask around a word": rf"(?!{MASK_OR_SPEAKER.pattern}|#사람\d){_TAG}",
    "curly quote": r"[“”‘’]",
    "… — – · ‹ ›": r"[…—–·‹›]",
    "full-width sign": r"[！-～]",
    "ㅋㅋ ㅎㅎ ㅠㅠ": r"[ㅋㅎㅠㅜ]{2,}",
    "stray jamo": r"(?<=[가-힣])[ㄱ-ㅎㅏ-ㅣ](?![ㄱ-ㅎㅏ-ㅣ])",
    "hanja": r"[一-鿿]+",
    "\\ for /": r"\\(?!n)",
    "* between digits": r"(?<=\d)\*(?=\d)",
}
"""The kinds of noise that occur in the competition's data and its translations, each with its pattern."""


@dataclass(frozen=True)
class Profile:
    """A table in numbers, over all its dialogues and references."""

    counts: dict[str, int]
    """Rows, references and different topics."""
    prompts: list[int]
    """Tokens of the instruction and each dialogue."""
    measures: dict[str, list[float]]
    """Every value of each measure; the measures are the same for all tables."""
    masks: dict[str, int]
    """Occurrences of every mask."""
    noise: dict[str, int]
    """Occurrences of every kind of noise."""


def texts(frame: pd.DataFrame) -> list[str]:
    """The dialogues of a table, then its references."""
    return [*frame["dialogue"], *chain.from_iterable(references(frame))]


def profile(frame: pd.DataFrame, tokens: Mapping[str, int], instruction: str) -> Profile:
    """Measure a table; `tokens` holds the length in tokens of each of its texts and of the instruction."""
    rows = list(zip(frame["dialogue"], references(frame), strict=True))
    masks = Counter(mask for text in texts(frame) for mask in _MASK.findall(text))
    found = sum(map(noise, texts(frame)), Counter[str]())
    pairs = [(dialogue, summary) for dialogue, summaries in rows for summary in summaries]
    return Profile(
        counts={
            "Rows": len(rows),
            "References": len(pairs),
            "Different topics": frame["topic"].nunique() if "topic" in frame else 0,
        },
        prompts=[tokens[instruction] + tokens[dialogue] for dialogue, _ in rows],
        measures={
            "Dialogue, characters": [len(dialogue) for dialogue, _ in rows],
            "Dialogue, tokens": [tokens[dialogue] for dialogue, _ in rows],
            "Summary, characters": [len(summary) for _, summary in pairs],
            "Summary, tokens": [tokens[summary] for _, summary in pairs],
            "Summary as % of its dialogue's characters": [100 * len(s) / len(d) for d, s in pairs],
            "Turns in a dialogue": [len(parse_turns(dialogue)) for dialogue, _ in rows],
            "Speakers in a dialogue": [len(speakers(dialogue)) for dialogue, _ in rows],
        },
        masks={mask: masks[mask] for mask in MASKS},
        noise={kind: found[kind] for kind in NOISE},
    )


def noise(text: str) -> Counter[str]:
    """Count the noise in a text, by kind; kinds that do not occur are left out."""
    # A tag that is no noise is consumed whole, as an empty find: no pattern may start at its last `#`.
    finds = {kind: re.findall(rf"({pattern})|{_TAG}", text) for kind, pattern in NOISE.items()}
    return +Counter({kind: sum(map(bool, found)) for kind, found in finds.items()})


def quantiles(values: Sequence[float]) -> dict[str, float | None]:
    """Where the values lie; None where there are none."""
    percents = {"Least": 0, "5%": 5, "Median": 50, "95%": 95, "Most": 100}
    if not values:
        return dict.fromkeys([*percents, "Mean"])
    return {
        **{name: float(np.percentile(values, percent)) for name, percent in percents.items()},
        "Mean": float(np.mean(values)),
    }


def percent_over(lengths: Sequence[int], limits: Iterable[int]) -> dict[str, float | None]:
    """The percentage of the lengths that exceed each limit; None where there are no lengths."""
    return {
        f"over {limit:,}": 100 * sum(length > limit for length in lengths) / len(lengths) if lengths else None
        for limit in limits
    }


def topic_words(topics: Iterable[str], n: int = 15) -> dict[str, int]:
    """The `n` words that occur in most topics, and in how many; words that tie stand in their own order."""
    counts = Counter(word for topic in topics for word in set(topic.split()))
    return dict(sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:n])


def histogram_table(series: Mapping[str, Sequence[float]], value: str) -> pd.DataFrame:
    """The percentage of each series' values in each bin (bins x series), after the bins' lower edges.

    Args:
        value: the name of the column of edges.
    """
    edges = bins([number for numbers in series.values() for number in numbers])
    heights = {name: np.round(percentages(numbers, edges), 2) for name, numbers in series.items()}
    return pd.DataFrame({value: edges, **heights})


def extremes(frame: pd.DataFrame, n: int = 2) -> dict[str, list[tuple[str, str, str, str]]]:
    """The `n` rows that lie farthest out in each way: (fname, how far, dialogue, summary), the farthest first."""
    lengths = frame["dialogue"].str.len()
    shares = 100 * frame["summary"].str.len() / lengths
    turns = frame["dialogue"].map(lambda dialogue: len(parse_turns(dialogue)))
    ways = {
        "Shortest dialogues": (lengths, True, "{:,} characters"),
        "Longest dialogues": (lengths, False, "{:,} characters"),
        "Summaries shortest for their dialogues": (shares, True, "{:.1f}% of the dialogue's characters"),
        "Summaries longest for their dialogues": (shares, False, "{:.1f}% of the dialogue's characters"),
        "Most turns": (turns, False, "{:,} turns"),
    }
    found = {}
    for name, (values, ascending, how) in ways.items():
        ranked = frame.assign(value=values).sort_values(["value", "fname"], ascending=[ascending, True]).head(n)
        columns = (ranked["fname"], ranked["value"].map(how.format), ranked["dialogue"], ranked["summary"])
        found[name] = list(zip(*columns, strict=True))
    return found


def changed_lines(before: str, after: str) -> list[tuple[str, str]]:
    """The lines of a text that changed, before and after; the whole text where lines came or went."""
    old, new = before.split("\n"), after.split("\n")
    if len(old) != len(new):
        return [(before, after)]
    return [(was, is_now) for was, is_now in zip(old, new, strict=True) if was != is_now]


def most_cleaned(raw: pd.DataFrame, clean: pd.DataFrame, n: int = 6) -> list[tuple[str, str, str]]:
    """The `n` rows whose dialogues lost most kinds of noise, as (fname, raw dialogue, clean dialogue)."""
    both = raw[["fname", "dialogue"]].merge(clean[["fname", "dialogue"]], on="fname")
    changed = [row for row in both.itertuples(index=False, name=None) if row[1] != row[2]]
    return sorted(changed, key=lambda row: len(noise(row[2])) - len(noise(row[1])))[:n]
