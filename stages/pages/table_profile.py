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
from stages.pages.phrase import Phrase, say

_MASK = re.compile(rf"#({'|'.join(MASKS)})#")
_TAG = r"(?:#(?:Person|사람)\d+#|#[A-Za-z가-힣]+(?: [A-Za-z가-힣]+){0,2}#)"

NOISE = {
    say("literal \\n", "글자로 적힌 \\n"): r"\\n",
    "<br>": r"<br ?/?>",
    say("carriage return", "캐리지 리턴"): r"\r",
    say("space before a newline", "줄 끝의 공백"): r"[ \t]+(?=\r?\n)",
    say("doubled space", "겹친 공백"): r"(?<=\S)[ \t]{2,}(?=\S)",
    say("speaker inside a line", "줄 안의 화자"): r"(?<=[^\n])(?<!\\n)(?<!<br>)#Person\d+#:",
    say("other form of speaker", "다른 꼴의 화자"): r"#사람\d+#|(?<!#)\bPerson\d+\b(?!#)",
    say("orphan #", "짝 없는 #"): rf"(?!{_TAG})(?<!\$)#",
    say("amount without digits", "숫자 없는 금액"): r"\$#,\d+",
    say("digits behind a mask", "마스크 뒤의 숫자"): r"(?<=[A-Za-z]#)\d+",
    say("mask around a word", "낱말을 감싼 마스크"): rf"(?!{MASK_OR_SPEAKER.pattern}|#사람\d){_TAG}",
    say("curly quote", "둥근 따옴표"): r"[“”‘’]",
    "… — – · ‹ ›": r"[…—–·‹›]",
    say("full-width sign", "전각 기호"): r"[！-～]",
    "ㅋㅋ ㅎㅎ ㅠㅠ": r"[ㅋㅎㅠㅜ]{2,}",
    say("stray jamo", "홀로 쓰인 자모"): r"(?<=[가-힣])[ㄱ-ㅎㅏ-ㅣ](?![ㄱ-ㅎㅏ-ㅣ])",
    say("hanja", "한자"): r"[一-鿿]+",
    say("\\ for /", "/ 대신 쓴 \\"): r"\\(?!n)",
    say("* between digits", "숫자 사이의 *"): r"(?<=\d)\*(?=\d)",
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
            say("Rows", "행"): len(rows),
            say("References", "참조 요약"): len(pairs),
            say("Different topics", "서로 다른 주제"): frame["topic"].nunique() if "topic" in frame else 0,
        },
        prompts=[tokens[instruction] + tokens[dialogue] for dialogue, _ in rows],
        measures={
            say("Dialogue, characters", "대화, 글자"): [len(dialogue) for dialogue, _ in rows],
            say("Dialogue, tokens", "대화, 토큰"): [tokens[dialogue] for dialogue, _ in rows],
            say("Summary, characters", "요약, 글자"): [len(summary) for _, summary in pairs],
            say("Summary, tokens", "요약, 토큰"): [tokens[summary] for _, summary in pairs],
            say("Summary as % of its dialogue's characters", "대화 글자 수에 대한 요약의 비율(%)"): [
                100 * len(s) / len(d) for d, s in pairs
            ],
            say("Turns in a dialogue", "대화의 발화 수"): [len(parse_turns(dialogue)) for dialogue, _ in rows],
            say("Speakers in a dialogue", "대화의 화자 수"): [len(speakers(dialogue)) for dialogue, _ in rows],
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
    percents = {say("Least", "최소"): 0, "5%": 5, say("Median", "중앙값"): 50, "95%": 95, say("Most", "최대"): 100}
    mean = say("Mean", "평균")
    if not values:
        return dict.fromkeys([*percents, mean])
    return {
        **{name: float(np.percentile(values, percent)) for name, percent in percents.items()},
        mean: float(np.mean(values)),
    }


def percent_over(lengths: Sequence[int], limits: Iterable[int]) -> dict[str, float | None]:
    """The percentage of the lengths that exceed each limit; None where there are no lengths."""
    over = {limit: sum(length > limit for length in lengths) for limit in limits}
    return {
        say("over {limit}", "{limit} 초과", limit=f"{limit:,}"): 100 * count / len(lengths) if lengths else None
        for limit, count in over.items()
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


def extremes(frame: pd.DataFrame, n: int = 2) -> dict[str, list[tuple[str, Phrase, str, str]]]:
    """The `n` rows that lie farthest out in each way: (fname, how far, dialogue, summary), the farthest first."""
    lengths = frame["dialogue"].str.len()
    shares = 100 * frame["summary"].str.len() / lengths
    turns = frame["dialogue"].map(lambda dialogue: len(parse_turns(dialogue)))
    ways = {
        say("Shortest dialogues", "가장 짧은 대화"): (lengths, True, _characters),
        say("Longest dialogues", "가장 긴 대화"): (lengths, False, _characters),
        say("Summaries shortest for their dialogues", "대화에 비해 가장 짧은 요약"): (shares, True, _share),
        say("Summaries longest for their dialogues", "대화에 비해 가장 긴 요약"): (shares, False, _share),
        say("Most turns", "발화가 가장 많은 대화"): (turns, False, _turns),
    }
    found: dict[str, list[tuple[str, Phrase, str, str]]] = {}
    for name, (values, ascending, how) in ways.items():
        ranked = frame.assign(value=values).sort_values(["value", "fname"], ascending=[ascending, True]).head(n)
        columns = (ranked["fname"], map(how, ranked["value"]), ranked["dialogue"], ranked["summary"])
        found[name] = list(zip(*columns, strict=True))
    return found


def _characters(value: float) -> Phrase:
    return say("{n} characters", "{n}자", n=f"{value:,}")


def _share(value: float) -> Phrase:
    return say("{n}% of the dialogue's characters", "대화 글자 수의 {n}%", n=f"{value:.1f}")


def _turns(value: float) -> Phrase:
    return say("{n} turns", "발화 {n}개", n=f"{value:,}")


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
