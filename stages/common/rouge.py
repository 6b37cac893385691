"""ROUGE F1 from 0 to 100, at word and at morpheme level: the mean over a row's references, then over rows.

The metric is that of the package `rouge` 1.0.1, so that scores can be set beside published ones. N-grams are
sets: one that is repeated counts once. Every "." ends a sentence and is no word. ROUGE-L unites the common
subsequences of all pairs of sentences, so their order does not matter to it: the sample's first references
score 41.9 against the others this way (in morphemes), and would score 36.1 as one sentence each. The package
is left only where it fails:

- a text without a word, such as "" or "...", scores 0; `rouge` raises ValueError;
- white space between two full stops is no word; `rouge` finds two words in "a. .", one of them empty;
- a long text is scored; `rouge` recurses once for each word and holds a dictionary of all pairs of words;
- at morpheme level the "." inside a morpheme, such as "3.5", ends no sentence.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from statistics import fmean
from typing import TYPE_CHECKING

from rouge.rouge_score import f_r_p_rouge_n, rouge_n

from stages.common.dialogue import MASK_OR_SPEAKER

if TYPE_CHECKING:
    from kiwipiepy import Kiwi

Analyser = Callable[[Sequence[str]], list[str]]
"""Turns texts into their morphemes, separated by spaces."""

_INNER_DOT = re.compile(r"(?<=[^\s.])\.(?=[^\s.])")


@dataclass(frozen=True)
class Scores:
    """F1 from 0 to 100."""

    rouge1: float
    rouge2: float
    rougeL: float

    @property
    def final(self) -> float:
        """The competition's score."""
        return fmean((self.rouge1, self.rouge2, self.rougeL))

    def rounded(self) -> dict[str, float]:
        """The four numbers by name, with 4 decimals: what a metrics file holds."""
        names = ("rouge1", "rouge2", "rougeL", "final")
        return {name: round(getattr(self, name), 4) for name in names}


def word_scores(hypotheses: Sequence[str], references: Sequence[Sequence[str]]) -> Scores:
    """Score texts by the words that white space separates, as the competition's baseline reports them.

    Args:
        hypotheses: a summary for each row.
        references: the reference summaries of each row, at least one.

    Raises:
        ValueError: no row, a row without a reference, or not as many rows of references as hypotheses.
    """
    rows = [
        _mean([_pair(_sentences(hypothesis), _sentences(reference)) for reference in row])
        for hypothesis, row in zip(hypotheses, references, strict=True)
    ]
    return _mean(rows)


def kiwi_morphemes(texts: Sequence[str]) -> list[str]:
    """Analyse texts with Kiwi, all at once; a mask or a speaker tag is one morpheme.

    A "." stays as it is where it ends a sentence, and becomes "·" inside a morpheme.
    """
    analysed = _kiwi().tokenize(texts, pretokenized=_mask_spans)
    return [" ".join(_INNER_DOT.sub("·", token.form) for token in tokens) for tokens in analysed]


ANALYSERS: dict[str, Analyser] = {"kiwi": kiwi_morphemes}
"""What `evaluate.morphemes` chooses from."""


def morpheme_scores(
    hypotheses: Sequence[str], references: Sequence[Sequence[str]], analyse: Analyser = kiwi_morphemes
) -> Scores:
    """Score texts by their morphemes, as the competition's leaderboard does, whose analyser is not published.

    Arguments and errors are those of `word_scores`.
    """
    texts = [*hypotheses, *(reference for row in references for reference in row)]
    morphemes = dict(zip(texts, analyse(texts), strict=True))
    return word_scores(
        [morphemes[hypothesis] for hypothesis in hypotheses],
        [[morphemes[reference] for reference in row] for row in references],
    )


@cache
def _kiwi() -> Kiwi:
    # Loading takes seconds: importing this module must not.
    from kiwipiepy import Kiwi

    return Kiwi()


def _mask_spans(text: str) -> list[tuple[int, int, str]]:
    return [(*match.span(), "W_HASHTAG") for match in MASK_OR_SPEAKER.finditer(text)]


def _sentences(text: str) -> list[str]:
    return [" ".join(sentence.split()) for sentence in text.split(".") if sentence.strip()]


def _mean(scores: Sequence[Scores]) -> Scores:
    return Scores(
        fmean(score.rouge1 for score in scores),
        fmean(score.rouge2 for score in scores),
        fmean(score.rougeL for score in scores),
    )


def _pair(hypothesis: list[str], reference: list[str]) -> Scores:
    """Score the sentences of a hypothesis against those of one reference."""
    if not hypothesis or not reference:
        return Scores(0.0, 0.0, 0.0)
    return Scores(
        100 * rouge_n(hypothesis, reference, 1)["f"],
        100 * rouge_n(hypothesis, reference, 2)["f"],
        100 * _rouge_l(hypothesis, reference),
    )


def _rouge_l(hypothesis: list[str], reference: list[str]) -> float:
    """F1 of the distinct words in the common subsequences of any two sentences, from 0 to 1."""
    hypothesis_words = [sentence.split() for sentence in hypothesis]
    reference_words = [sentence.split() for sentence in reference]
    common = {word for r in reference_words for h in hypothesis_words for word in _common_subsequence(r, h)}
    f1: float = f_r_p_rouge_n(
        len({word for sentence in hypothesis_words for word in sentence}),
        len({word for sentence in reference_words for word in sentence}),
        len(common),
    )["f"]
    return f1


def _common_subsequence(reference: Sequence[str], hypothesis: Sequence[str]) -> list[str]:
    """A longest common subsequence; of several, the one that `rouge` 1.0.1 reconstructs.

    Each row of the dynamic programme is one integer (Hyyrö 2004, "Bit-parallel LCS-length computation
    revisited"): bit j - 1 of row i is 0 where the j-th word of the hypothesis makes the common subsequence
    with the first i words of the reference longer.
    """
    positions: dict[str, int] = {}
    for j, word in enumerate(hypothesis):
        positions[word] = positions.get(word, 0) | 1 << j
    ones = (1 << len(hypothesis)) - 1
    rows = [ones]
    for word in reference:
        matches = rows[-1] & positions.get(word, 0)
        rows.append(((rows[-1] + matches) | (rows[-1] - matches)) & ones)

    common = []
    i, j = len(reference), len(hypothesis)
    while i and j:
        if reference[i - 1] == hypothesis[j - 1]:
            i, j = i - 1, j - 1
            common.append(reference[i])
        elif rows[i] >> (j - 1) & 1:
            j -= 1
        else:
            i -= 1
    return common[::-1]
