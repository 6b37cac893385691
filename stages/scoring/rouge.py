"""ROUGE F1 from 0 to 100, at word and at morpheme level: the mean over a row's references, then over rows.

`published` is the metric of the package `rouge` 1.0.1, so that scores can be set beside published ones. N-grams
are sets: one that is repeated counts once. Every "." ends a sentence and is no word. ROUGE-L unites the common
subsequences of all pairs of sentences, so their order does not matter to it: the sample's first references
score 41.9 against the others this way (in morphemes), and would score 36.1 as one sentence each. The package
is left only where it fails:

- a text without a word, such as "" or "...", scores 0; `rouge` raises ValueError;
- white space between two full stops is no word; `rouge` finds two words in "a. .", one of them empty;
- a long text is scored; `rouge` recurses once for each word and holds a dictionary of all pairs of words;
- at morpheme level the "." inside a morpheme, such as "3.5", ends no sentence.

`clipped` counts as the package `rouge_score` does, whose own tokenizer drops Hangul: an n-gram counts as often as
both texts hold it, and ROUGE-L is the longest common subsequence of the whole texts.
"""

from __future__ import annotations

import unicodedata
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import pairwise
from statistics import fmean
from typing import TypeVar

from rouge.rouge_score import f_r_p_rouge_n

from stages.scoring.morphemes import Analyzer, kiwi_morphemes, words


@dataclass(frozen=True)
class Score(ABC):
    """What a metric says of a summary, or on average of several: its fields, from 0 to 100, and one number for all."""

    @property
    @abstractmethod
    def final(self) -> float:
        """The number that summaries are compared by."""

    def rounded(self) -> dict[str, float]:
        """The numbers by name, `final` last, with 4 decimals: what a metrics file holds."""
        names = dict.fromkeys([*(field.name for field in fields(self)), "final"])
        return {name: round(getattr(self, name), 4) for name in names}


@dataclass(frozen=True)
class Scores(Score):
    """F1 from 0 to 100."""

    rouge1: float
    rouge2: float
    rougeL: float

    @property
    def final(self) -> float:
        """The competition's score."""
        return (self.rouge1 + self.rouge2 + self.rougeL) / 3


S = TypeVar("S", bound=Score)


def mean(scores: Sequence[S]) -> S:
    """The mean of each field.

    Raises:
        ValueError: there is no score.
    """
    if not scores:
        raise ValueError("a mean needs at least one score")
    kind = type(scores[0])
    return kind(*(fmean(getattr(score, field.name) for score in scores) for field in fields(kind)))


@dataclass(frozen=True)
class Text:
    """An analysed text, with what scoring it against any other needs, each worked out once.

    `positions` holds for each sentence the places of each of its words, as bits.
    """

    sentences: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, analysed: str) -> Text:
        return cls(tuple(tuple(sentence.split()) for sentence in analysed.split(".") if sentence.strip()))

    @cached_property
    def words(self) -> tuple[str, ...]:
        return tuple(word for sentence in self.sentences for word in sentence)

    @cached_property
    def unigrams(self) -> frozenset[str]:
        return frozenset(self.words)

    @cached_property
    def bigrams(self) -> frozenset[tuple[str, str]]:
        return frozenset(pairwise(self.words))

    @cached_property
    def positions(self) -> tuple[dict[str, int], ...]:
        return tuple(_positions(sentence) for sentence in self.sentences)


Pair = Callable[[Text, Text], Scores]
"""Scores a hypothesis against one reference."""


def published(hypothesis: Text, reference: Text) -> Scores:
    """As the package `rouge` 1.0.1, which published scores come from."""
    return Scores(
        _f1(len(hypothesis.unigrams), len(reference.unigrams), len(hypothesis.unigrams & reference.unigrams)),
        _f1(len(hypothesis.bigrams), len(reference.bigrams), len(hypothesis.bigrams & reference.bigrams)),
        _f1(len(hypothesis.unigrams), len(reference.unigrams), len(_united_subsequences(hypothesis, reference))),
    )


def clipped(hypothesis: Text, reference: Text) -> Scores:
    """As the package `rouge_score`: repetitions count, and the order of sentences does."""
    ours, theirs = hypothesis.words, reference.words
    rows = _lcs_rows(theirs, _positions(ours), len(ours))
    return Scores(
        _f1(len(ours), len(theirs), _common(ours, theirs)),
        _f1(max(len(ours) - 1, 0), max(len(theirs) - 1, 0), _common(pairwise(ours), pairwise(theirs))),
        _f1(len(ours), len(theirs), len(ours) - rows[-1].bit_count()),
    )


class Scorer:
    """Scores summaries at one level, words or morphemes; a text is analysed once, however often it is scored."""

    def __init__(self, analyse: Analyzer) -> None:
        self._analyse = analyse
        self._texts: dict[str, Text] = {}

    def texts(self, texts: Sequence[str]) -> list[Text]:
        """Analyse texts, all that are new at once, in composed Unicode (NFC): Hangul in pieces scores the same."""
        new = list(dict.fromkeys(text for text in texts if text not in self._texts))
        analysed = self._analyse([unicodedata.normalize("NFC", text) for text in new])
        self._texts.update(zip(new, map(Text.of, analysed), strict=True))
        return [self._texts[text] for text in texts]

    def rows(
        self, hypotheses: Sequence[str], references: Sequence[Sequence[str]], pair: Pair = published
    ) -> list[Scores]:
        """Score each row: the mean over its references.

        Args:
            hypotheses: a summary for each row.
            references: the reference summaries of each row, at least one.
            pair: how a hypothesis is scored against one reference.

        Raises:
            ValueError: a row without a reference, or not as many rows of references as hypotheses.
        """
        self.texts([*hypotheses, *(reference for row in references for reference in row)])
        return [
            mean([pair(self._texts[hypothesis], self._texts[reference]) for reference in row])
            for hypothesis, row in zip(hypotheses, references, strict=True)
        ]


def word_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """Score texts by the words that white space separates, as the competition's baseline reports them.

    Args:
        hypotheses: a summary for each row.
        references: the reference summaries of each row, at least one.

    Raises:
        ValueError: no row, a row without a reference, or not as many rows of references as hypotheses.
    """
    return mean(Scorer(words).rows(hypotheses, references))


def morpheme_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], analyse: Analyzer = kiwi_morphemes
) -> Scores:
    """Score texts by their morphemes, as the competition's leaderboard does, whose analyzer is not published.

    Arguments and errors are those of `word_scores`.
    """
    return mean(Scorer(analyse).rows(hypotheses, references))


def _f1(hypothesis: int, reference: int, common: int) -> float:
    """F1 from 0 to 100 of counts, as `rouge` 1.0.1 computes it."""
    f1: float = f_r_p_rouge_n(hypothesis, reference, common)["f"]
    return 100 * f1


def _common(first: Iterable[Hashable], second: Iterable[Hashable]) -> int:
    return (Counter(first) & Counter(second)).total()


def _united_subsequences(hypothesis: Text, reference: Text) -> set[str]:
    """The distinct words in the common subsequences of any two sentences."""
    common: set[str] = set()
    for r in reference.sentences:
        for h, positions in zip(hypothesis.sentences, hypothesis.positions, strict=True):
            common.update(_common_subsequence(r, h, positions))
    return common


def _positions(words: Sequence[str]) -> dict[str, int]:
    positions: dict[str, int] = {}
    for j, word in enumerate(words):
        positions[word] = positions.get(word, 0) | 1 << j
    return positions


def _lcs_rows(reference: Sequence[str], positions: dict[str, int], length: int) -> list[int]:
    """The dynamic programme of the longest common subsequence, each row one integer.

    After Hyyrö 2004, "Bit-parallel LCS-length computation revisited": bit j - 1 of row i is 0 where the j-th
    word of the hypothesis makes the common subsequence with the first i words of the reference longer.

    Args:
        positions: the hypothesis, as `_positions` gives it.
        length: of the hypothesis, in words.
    """
    row = ones = (1 << length) - 1
    rows = [row]
    for word in reference:
        matches = row & positions.get(word, 0)
        row = ((row + matches) | (row - matches)) & ones
        rows.append(row)
    return rows


def _common_subsequence(
    reference: Sequence[str], hypothesis: Sequence[str], positions: dict[str, int]
) -> Iterator[str]:
    """A longest common subsequence, backwards; of several, the one that `rouge` 1.0.1 reconstructs."""
    rows = _lcs_rows(reference, positions, len(hypothesis))
    i, j = len(reference), len(hypothesis)
    while i and j:
        if reference[i - 1] == hypothesis[j - 1]:
            i, j = i - 1, j - 1
            yield reference[i]
        elif rows[i] >> (j - 1) & 1:
            j -= 1
        else:
            i -= 1
