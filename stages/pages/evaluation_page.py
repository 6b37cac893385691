"""The report of an evaluation: one self-contained page with scores, their groups, and every row to browse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from stages.pages.highlight import mark_overlap
from stages.pages.marked_text import Span, mark_tags
from stages.pages.phrase import Phrase, say
from stages.pages.rendering import render
from stages.scoring.bootstrap import Interval, interval
from stages.scoring.metrics import METRICS
from stages.scoring.morphemes import Cutter, Morpheme, joined
from stages.scoring.prediction_checks import CHECKS
from stages.scoring.rouge import Score, Scores, Text, mean
from stages.scoring.scored_rows import ScoredRow, by_length, by_speakers, by_topic_word
from stages.scoring.shape import length_ratio

Scored = tuple[Sequence[ScoredRow], Mapping[str, Sequence[Scores]]]
"""The rows of a split, and for each baseline its scores of the same rows."""

MEANING = {
    "swapped_speakers": say(
        "What two speakers do fits what they say better with their tags exchanged. Of the sample's references, 57% are "
        "found when their speakers are exchanged, and 5% as they are.",
        "두 화자의 태그를 서로 바꾸면 한 일과 한 말이 더 잘 맞습니다. 샘플의 참조 요약에서는 화자를 바꾸었을 때 "
        "57%를, 그대로일 때 5%를 찾아냅니다.",
    ),
    "silent_speakers": say("A speaker tag that does not speak in the dialogue.", "대화에서 말하지 않는 화자입니다."),
    "invented": say(
        "A number in digits, a Latin word or a mask that is not in the dialogue.",
        "대화에 없는 숫자, 로마자 낱말, 마스크입니다.",
    ),
    "missing_masks": say(
        "A mask that every reference has and the summary has not.",
        "참조 요약마다 있는데 요약에는 없는 마스크입니다.",
    ),
    "repeats": say("Three words that occur twice.", "두 번 나온 세 어절입니다."),
    "not_korean": say("Less than 30% of the letters are Hangul.", "글자 가운데 한글이 30%가 안 됩니다."),
    "length": say(
        "Less than half of the references' mean length, or more than twice.",
        "참조 요약의 평균 길이의 절반이 안 되거나 두 배가 넘습니다.",
    ),
}
"""What each check finds, for the reader of the report."""
FLAGS = {
    "swapped_speakers": say("swapped speakers", "뒤바뀐 화자"),
    "silent_speakers": say("silent speakers", "말하지 않은 화자"),
    "invented": say("invented", "지어낸 내용"),
    "missing_masks": say("missing masks", "빠진 마스크"),
    "repeats": say("repeats", "되풀이"),
    "not_korean": say("not Korean", "한국어 아님"),
    "length": say("length", "길이"),
}
"""What a row is flagged with, by the check."""
LEVELS = {
    "word": say("word", "어절"),
    "morpheme": say("morpheme", "형태소"),
    "clipped": say("clipped", "형태소 중복 제한"),
    "word_clipped": say("word_clipped", "어절 중복 제한"),
}
"""The metrics; one that is not here stands under its own name."""
TITLES = {"rouge1": "ROUGE-1", "rouge2": "ROUGE-2", "rougeL": "ROUGE-L", "final": say("mean", "평균")}
"""Of the numbers that a metric gives; others stand under their own names."""


def render_report(
    scored: Mapping[str, Scored], decoding: Mapping[str, Any], cut: Cutter, *, refitted: bool = False
) -> str:
    """The page.

    Args:
        scored: by split; one without references is left out.
        decoding: the contents of metrics/eval/decoding.json.
        cut: finds the morphemes whose overlap is marked in the summaries.
        refitted: test is summarized by an adapter that learned dev too.
    """
    return render(
        "report.html",
        scores={split: split_scores(*of) for split, of in scored.items()},
        refitted=refitted,
        decoding=decoding_search(decoding),
        groups=score_groups(scored),
        flags=flagged_rows(scored),
        found=[name for name in CHECKS if any(name in row.findings for rows, _ in scored.values() for row in rows)],
        rows=browsed_rows(scored, cut),
        flag_name=flag_name,
    )


def flag_name(check: str) -> Phrase:
    return FLAGS.get(check) or say("{check}", "{check}", check=check.replace("_", " "))


@dataclass(frozen=True)
class TextTable:
    header: list[str]
    rows: list[list[str]]
    """The first cell names the row."""
    chosen: frozenset[int] = frozenset()
    """The places of rows that stand out."""


@dataclass(frozen=True)
class SplitScores:
    rows: int
    model: Mapping[str, Interval]
    """Mean scores by level."""
    baselines: Mapping[str, Interval]
    """Mean scores at morpheme level."""
    table: TextTable


def split_scores(rows: Sequence[ScoredRow], baselines: Mapping[str, Sequence[Scores]]) -> SplitScores:
    """A split's mean scores beside the baselines'."""
    levels = {name: [row.scores[name] for row in rows] for name in METRICS}
    means = {level: mean(of).rounded() for level, of in levels.items()}
    numbers = dict.fromkeys(name for of in means.values() for name in of)
    return SplitScores(
        len(rows),
        {_model(level): mean_final(of) for level, of in levels.items()},
        {say("{name}, morpheme", "{name}, 형태소", name=name): mean_final(of) for name, of in baselines.items()},
        TextTable(
            ["", *(TITLES.get(name, name) for name in numbers)],
            [
                [_model(level), *(f"{of[name]:.2f}" if name in of else "" for name in numbers)]
                for level, of in means.items()
            ],
        ),
    )


def _model(level: str) -> Phrase:
    return say("model, {level}", "모델, {level}", level=LEVELS.get(level, level))


def mean_final(scores: Sequence[Score]) -> Interval:
    return interval([score.final for score in scores])


@dataclass(frozen=True)
class DecodingSearch:
    objective: str
    """What was optimised; a key of `OBJECTIVES`."""
    chosen: Mapping[str, str]
    cross_validated: Mapping[str, Any] | None
    """What choosing gained, if that was measured."""
    tried: TextTable | None
    """The candidates, with the score of each and the settings in which they differ."""


SHOWN_ALWAYS = ("final", "repeats", "length_ratio")
"""What the table of settings tried shows though it were the same for all."""


def decoding_search(decoding: Mapping[str, Any]) -> DecodingSearch:
    """What was tried on dev, what was chosen, and what that gained; nothing is tried in a run that does not search."""
    chosen, tried = dict(decoding["chosen"]), decoding.get("tried", [])
    if weighed := decoding.get("rerank"):
        chosen |= {"rerank": weighed["rerank"], "drawn": weighed["samples"]}
    names = list(dict.fromkeys(name for candidate in tried for name in candidate))
    cells = {name: [_shown(candidate.get(name, "–")) for candidate in tried] for name in names}
    telling = [name for name in names if len(set(cells[name])) > 1 or name in SHOWN_ALWAYS]
    table = TextTable(
        ["", *telling],
        [[f"{row + 1}", *(cells[name][row] for name in telling)] for row in range(len(tried))],
        frozenset(row for row, each in enumerate(tried) if all(each.get(n, v) == v for n, v in chosen.items())),
    )
    shown = {name: _shown(value) for name, value in chosen.items()}
    return DecodingSearch(decoding["objective"], shown, decoding.get("cross_validated"), table if tried else None)


def _shown(value: Any) -> str:
    """A setting or a score as a cell of a table."""
    if isinstance(value, float):
        return f"{round(value, 3):g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_shown(each)}" for name, each in value.items())
    return str(value)


def score_groups(scored: Mapping[str, Scored]) -> dict[str, dict[str, dict[str, Interval]]]:
    """Mean scores of groups of rows, by what groups them and by split."""
    kinds: dict[str, Callable[[Sequence[ScoredRow]], dict[str, list[ScoredRow]]]] = {
        say("characters in the dialogue", "대화의 글자 수"): by_length,
        say("speakers in the dialogue", "대화의 화자 수"): by_speakers,
        say("words in the topic", "주제에 든 낱말"): by_topic_word,
    }
    return {
        kind: {
            split: {_group(name, len(of)): mean_final([row.morpheme for row in of]) for name, of in group(rows).items()}
            for split, (rows, _) in scored.items()
        }
        for kind, group in kinds.items()
    }


def _group(name: str, rows: int) -> Phrase:
    """A group's name, such as `250 to 399` or `600 or more`, and how many rows it has."""
    korean = name.replace(" to ", "~").replace(" or more", " 이상")
    return say("{name} (n = {rows})", "{name} (n = {rows})", name=Phrase(name, korean), rows=f"{rows:,}")


def _check(name: str) -> Phrase:
    """As the metrics have it; in Korean, what it flags a row with."""
    return Phrase(name, FLAGS[name].korean)


def flagged_rows(scored: Mapping[str, Scored]) -> TextTable:
    """The percentage of rows that each check flags, by split."""
    percentages = {
        name: [100 * sum(name in row.findings for row in rows) / len(rows) for rows, _ in scored.values()]
        for name in CHECKS
    }
    return TextTable(
        ["", *scored, say("what it finds", "찾아내는 것")],
        [[_check(name), *(f"{value:.1f}" for value in values), MEANING[name]] for name, values in percentages.items()],
    )


@dataclass(frozen=True)
class BrowsedRow:
    """A row to be searched, sorted and opened."""

    order: int
    """Its place among the rows of all splits."""
    split: str
    scored: ScoredRow
    length_ratio: float
    dialogue: list[Span]
    summary: list[Span]
    """Marked is what any reference has too."""
    references: list[list[Span]]
    """Marked is what the summary has too."""


def browsed_rows(scored: Mapping[str, Scored], cut: Cutter) -> list[BrowsedRow]:
    """Every row, the worst first."""
    every = [(split, row) for split, (rows, _) in scored.items() for row in rows]
    texts = list(dict.fromkeys(text for _, row in every for text in (row.summary, *row.references)))
    cuts = dict(zip(texts, cut(texts), strict=True))
    rows = [_browsed(order, split, row, cuts) for order, (split, row) in enumerate(every)]
    return sorted(rows, key=lambda row: (row.scored.morpheme.final, row.order))


def _browsed(order: int, split: str, row: ScoredRow, cuts: Mapping[str, Sequence[Morpheme]]) -> BrowsedRow:
    summary = Text.of(joined(cuts[row.summary]))
    references = [Text.of(joined(cuts[reference])) for reference in row.references]
    return BrowsedRow(
        order,
        split,
        row,
        length_ratio([row.summary], [row.references]),
        mark_tags(row.dialogue),
        mark_overlap(row.summary, cuts[row.summary], references),
        [mark_overlap(reference, cuts[reference], [summary]) for reference in row.references],
    )
