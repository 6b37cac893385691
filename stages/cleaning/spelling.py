"""Correct typos in Korean text offline, where the language model of Kiwi is sure of the correction.

Stray jamo ("배경ㅇ로", "제ㅏ"), common misspellings ("됬다", "몇일", "할께요") and spaces ("할수있다", "사람 은") are
noticed by rules. A rule offers texts for a place; Kiwi scores the line with each of them and as it stands (log
likelihood, in nats), and the best is taken where the confidence in it reaches a threshold:

    confidence = trust in the rule + score with the text - score with its best rival, or as it stands

A missing space changes no score of Kiwi's: the rival is then the best of its readings without a word boundary there.

Hangul is put for Hangul, and spaces between Hangul: masks, tags, Latin words, numbers, punctuation and newlines are
in no edit. A word that Kiwi does not know is no reason for one, so names, brands and dialect stay.

Of what runs offline, measured by `python -m benchmarks.spelling` on 140 sentences with errors and 195 without (a
sentence counts where all of it comes out right; precision is over all sentences changed):

    this module                    precision 98.5%, recall 93.6%, of clean sentences changed  0.0%
    its table, no language model   precision 90.7%, recall 48.6%, of clean sentences changed  2.6%
    matchum 0.1.3, rules           precision 88.9%, recall 34.3%, of clean sentences changed  1.0%
    Kiwi's own typo correction     precision 81.8%, recall 12.9%, of clean sentences changed  0.0%
    Kiwi.space                     precision 33.6%, recall 26.4%, of clean sentences changed 14.9%
    dadeum 1.0.1, spacing          precision  8.2%, recall 15.0%, of clean sentences changed 66.7%

symspellpy, with the 30,000 words of wordfreq, changed half of the clean ones: Korean words have too many forms.

The rules were written with these sentences in view. Before 80 of them were, of the 30 with errors among those 22 came
out right and one in part, and the 50 clean ones unchanged. In 36,000 lines of Korean program messages, after six
kinds of wrong change found there had been ruled out, 157 lines change, one of them wrongly, in an identifier.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise, takewhile
from typing import TYPE_CHECKING, NamedTuple

from stages.cleaning.jamo import repairs
from stages.cleaning.misspellings import NEVER_RIGHT, SOMETIMES_RIGHT
from stages.corpus.kiwi import kiwi, mask_spans

if TYPE_CHECKING:
    from kiwipiepy import Token

    Reading = tuple[Sequence[Token], float]

KNOWN = 10.0
"""Trust in a rule for what is never right: the language model can but veto it."""
LIKELY = 5.0
"""Trust in a rule for what is seldom right: a jamo within a word, a space before a particle."""
GUESS = 0.0
"""Trust in a rule that much correct text meets too: the language model decides."""

READINGS = 10
"""Readings of a line that are compared; a boundary that all of them have is at least as sure as the last is worse."""
ROUNDS = 20
"""A line is corrected once a round; one that is not done after these is left as it was."""
COSTLY = -15.0
"""A lone syllable and the morpheme behind it, scored higher than this together, are words of their own."""

_HANGUL = re.compile(r"[ㄱ-ㅣ가-힣]")
_SPACE = re.compile(r"(?<=[가-힣]) (?=[가-힣])")
_WITHIN = re.compile(r"[가-힣]{2}")
_LONE_SYLLABLE = re.compile(r"(?<!\S)[가-힣]$")
_AUXILIARIES = ("싶", "있", "계시", "않", "말")
_DEPENDENT_NOUNS = ("것", "거", "건", "겁", "줄", "적", "만큼", "뿐", "때")  # not 게 and 걸, which endings have too
_ADVERBS = ("정말", "진짜", "아주", "매우", "항상", "자주", "별로", "전혀", "아직", "벌써", "일찍", "빨리", "천천히")


class Edit(NamedTuple):
    """Replace the characters of a line from `start` to before `end` by `text`."""

    start: int
    end: int
    text: str

    def apply(self, line: str) -> str:
        return line[: self.start] + self.text + line[self.end :]


class Spot(NamedTuple):
    """A place that looks wrong: its rival edits, at least one, and the trust in the rule that noticed it."""

    edits: Sequence[Edit]
    trust: float


def correct(texts: Sequence[str], threshold: float) -> list[tuple[str, int]]:
    """Correct the typos of texts. A corrected text, corrected again, stays as it is.

    Args:
        texts: dialogues, utterances or summaries; a line that several of them have is analysed once.
        threshold: the least confidence of a correction, in nats: 8 stands for odds of 3,000 to 1. Below 6, clean
            sentences change; above 9, known misspellings stay.

    Returns:
        For each text, the corrected text and the number of corrections in it.
    """
    lines = dict.fromkeys(line for text in texts for line in text.split("\n") if _HANGUL.search(line))
    corrected = _correct_lines(list(lines), threshold)
    results = []
    for text in texts:
        parts = [corrected.get(line, (line, 0)) for line in text.split("\n")]
        results.append(("\n".join(line for line, _ in parts), sum(count for _, count in parts)))
    return results


def _correct_lines(lines: Sequence[str], threshold: float) -> dict[str, tuple[str, int]]:
    """The lines that get done, each with its correction and the number of rounds that this took."""
    open_lines = {line: line for line in lines}
    done: dict[str, tuple[str, int]] = {}
    for count in range(ROUNDS):
        edits = _best_edits(list(dict.fromkeys(open_lines.values())), threshold)
        done |= {line: (text, count) for line, text in open_lines.items() if text not in edits}
        open_lines = {line: edits[text].apply(text) for line, text in open_lines.items() if text in edits}
    return done


def _best_edits(lines: Sequence[str], threshold: float) -> dict[str, Edit]:
    """The most confident edit of each line that has one of at least `threshold`; of equals, the first."""
    readings = {line: best[0] for line, best in zip(lines, _read(lines, 1), strict=True)}
    spots = {line: list(_spots(line, tokens)) for line, (tokens, _) in readings.items()}
    drafts = list({edit.apply(line): None for line in lines for spot in spots[line] for edit in spot.edits})
    scores = {line: score for line, (_, score) in readings.items()}
    scores |= {draft: best[0][1] for draft, best in zip(drafts, _read(drafts, 1), strict=True)}
    judged = {line: [_judge(line, spot, scores) for spot in spots[line]] for line in lines}

    gaps = {line: found for line in lines if (found := list(_gaps(line, readings[line][0])))}
    for line, rivals in zip(gaps, _read(list(gaps), READINGS), strict=True):
        judged[line] += [_judge_gap(at, trust, rivals) for at, trust in gaps[line]]

    best_edits = {line: max(edits, key=lambda pair: pair[0]) for line, edits in judged.items() if edits}
    return {line: edit for line, (confidence, edit) in best_edits.items() if confidence >= threshold}


def _judge(line: str, spot: Spot, scores: Mapping[str, float]) -> tuple[float, Edit]:
    """The confidence in the best edit of a spot, and that edit."""
    best, *rivals = sorted(spot.edits, key=lambda edit: -scores[edit.apply(line)])
    rival = max(scores[text] for text in (line, *(edit.apply(line) for edit in rivals)))
    return spot.trust + scores[best.apply(line)] - rival, best


def _judge_gap(at: int, trust: float, readings: Sequence[Reading]) -> tuple[float, Edit]:
    """The confidence in a space at a place of the line, and the edit that puts it there."""
    without = (score for tokens, score in readings if all(token.start != at for token in tokens))
    return trust + readings[0][1] - next(without, readings[-1][1]), Edit(at, at, " ")


def _spots(line: str, tokens: Sequence[Token]) -> Iterator[Spot]:
    for table, trust in ((NEVER_RIGHT, KNOWN), (SOMETIMES_RIGHT, LIKELY)):
        for pattern, replacement in table:
            for match in pattern.finditer(line):
                text = match.expand(replacement) if isinstance(replacement, str) else replacement(match)
                yield Spot([Edit(*match.span(), text)], trust)
    for start, end, texts in repairs(line):
        yield Spot([Edit(start, end, text) for text in texts], LIKELY)
    yield from _joins(line, tokens)


def _joins(line: str, tokens: Sequence[Token]) -> Iterator[Spot]:
    """Spaces too many: before a particle or an ending ("사람 은", "먹 었다"), and within a word ("학 교에")."""
    index = {token.start: i for i, token in enumerate(tokens)}
    for match in _SPACE.finditer(line):
        i = index.get(match.end(), 0)
        if not i:
            continue
        left, right = tokens[i - 1 : i + 1]
        join = [Edit(*match.span(), "")]
        if left.tag not in ("JKS", "JKO", "JKG") and _hangs(tokens[i:], line):
            yield Spot(join, LIKELY)
        elif right.len == 1 and left.score + right.score < COSTLY and _LONE_SYLLABLE.search(line, 0, match.start()):
            yield Spot(join, GUESS)


def _hangs(tokens: Sequence[Token], line: str) -> bool:
    """Whether a word is nothing but particles or endings, none that Kiwi only reads into a contraction."""
    first = tokens[0]
    particle = first.tag.startswith("J") and first.form not in ("이", "하고", "밖에")  # 이 집, 밥 하고, 집 밖에
    ending = first.tag.startswith("E") and (first.tag == "EP" or first.len > 1)
    if not (particle or ending) or line[first.start : first.end] != first.form:
        return False
    word = takewhile(lambda token: _WITHIN.fullmatch(line[token.start - 1 : token.start + 1]), tokens[1:])
    return all(token.tag.startswith("J" if particle else ("E", "J")) for token in word)


def _gaps(line: str, tokens: Sequence[Token]) -> Iterator[tuple[int, float]]:
    """Where a space is missing between two words, and the trust in the rule that says so.

    Nothing is said of compounds, nor of auxiliaries behind -아/-어, which may be written either way.
    """
    for i, (left, right) in enumerate(pairwise(tokens)):
        if left.end == right.start and _WITHIN.fullmatch(line[right.start - 1 : right.start + 1]):
            behind = next((token for token in tokens[i + 2 :] if token.tag[0] != "J"), right)
            if _stand_apart(left, right, behind, line):
                yield right.start, LIKELY
            elif _may_stand_apart(left, right, line):
                yield right.start, GUESS


def _stand_apart(left: Token, right: Token, behind: Token, line: str) -> bool:
    """Whether grammar asks for a space: 할 수 있다, 갈 때, 이런 거, 너 때문에, 하고 싶다."""
    written = line[right.start : right.end]
    if written == "수":
        return left.tag == "ETM" and behind.form in ("있", "없")
    if left.tag == "NNB":
        return left.form == "수" and right.form in ("있", "없")
    if left.tag == "EC":
        return left.form in ("고", "지", "게") and right.tag == "VX" and right.form in _AUXILIARIES
    if left.tag == "MM":
        return left.form in ("이런", "그런", "저런") and written in ("것", "거")
    return right.form == "때문" or (left.tag == "ETM" and written in _DEPENDENT_NOUNS)


def _may_stand_apart(left: Token, right: Token, line: str) -> bool:
    """Whether two words may have run together: 안 가요, 정말 좋아요, 밥을 먹어요, 동생이 학교에."""
    verb = right.tag[:2] in ("VV", "VA")
    if left.tag == "MAG":
        if left.form in ("안", "못"):  # 안되다 and 못하다 are words
            return verb and right.form not in ("되", "하") and not _HANGUL.match(line[: left.start][-1:])
        return verb and left.form in _ADVERBS
    particle = left.tag.startswith("J") and line[left.start : left.end] == left.form
    return particle and (verb or (right.tag[:2] in ("NN", "MA") and right.len > 1))


def _read(lines: Sequence[str], readings: int) -> Iterator[Sequence[Reading]]:
    # Typos are no words here; work is shared by processes.
    analyzer = kiwi(num_workers=1, load_typo_dict=False, load_multi_dict=False)
    analyzed: Iterator[Sequence[Reading]] = analyzer.analyze(lines, top_n=readings, pretokenized=mask_spans)
    return analyzed
