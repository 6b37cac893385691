"""Every text of a group scored against every other: the same numbers as pair by pair, at a hundredth of the time.

Minimum Bayes risk among 300 candidates takes 90,000 scores for each dialogue. What texts have in common is counted for
all of them at once: n-grams by a matrix product, common subsequences by compiled loops.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from itertools import chain, pairwise

import numpy as np
from numba import njit
from numpy.typing import NDArray

from stages.scoring.rouge import Pair, Text, clipped, published

Counts = NDArray[np.int64]
Matrix = NDArray[np.float64]


def finals(texts: Sequence[Text], pair: Pair) -> Matrix:
    """The final score of each text as a hypothesis against each as a reference: (texts, texts), 0 to 100.

    Args:
        pair: `published` or `clipped`.
    """
    scores = PAIRS[pair](texts)
    matrix: Matrix = sum(scores[1:], scores[0]) / len(scores)
    return matrix


def _published(texts: Sequence[Text]) -> list[Matrix]:
    unigrams = [text.unigrams for text in texts]
    bigrams = [text.bigrams for text in texts]
    sizes = _sizes(unigrams)
    return [
        _f1(sizes, _shared(unigrams)),
        _f1(_sizes(bigrams), _shared(bigrams)),
        _f1(sizes, _united_subsequences(*_numbered(texts))),
    ]


def _clipped(texts: Sequence[Text]) -> list[Matrix]:
    unigrams = [list(_numbered_occurrences(text.words)) for text in texts]
    bigrams = [list(_numbered_occurrences(pairwise(text.words))) for text in texts]
    words, sentences, firsts = _numbered(texts)
    sizes = _sizes(unigrams)
    return [
        _f1(sizes, _shared(unigrams)),
        _f1(_sizes(bigrams), _shared(bigrams)),
        _f1(sizes, _subsequence_lengths(words, sentences[firsts])),
    ]


PAIRS: dict[Pair, Callable[[Sequence[Text]], list[Matrix]]] = {published: _published, clipped: _clipped}
"""ROUGE-1, ROUGE-2 and ROUGE-L of all pairs, by the function that scores one pair."""


def _f1(sizes: Counts, common: Counts) -> Matrix:
    """F1 from 0 to 100, rounded where `rouge` 1.0.1 rounds; hypotheses are rows."""
    least = np.maximum(sizes, 1)
    precision, recall = common / least[:, None], common / least[None, :]
    return 100 * (2.0 * ((precision * recall) / (precision + recall + 1e-8)))


def _sizes(items: Sequence[Sequence[Hashable] | frozenset[Hashable]]) -> Counts:
    return np.array([len(each) for each in items], dtype=np.int64)


def _shared(items: Sequence[Iterable[Hashable]]) -> Counts:
    """How many items each two texts share, which have each item once."""
    numbers: dict[Hashable, int] = {}
    places = [[numbers.setdefault(item, len(numbers)) for item in each] for each in items]
    holds = np.zeros((len(places), max(len(numbers), 1)), dtype=np.float32)
    for row, columns in enumerate(places):
        holds[row, columns] = 1
    return (holds @ holds.T).astype(np.int64)


def _numbered_occurrences(items: Iterable[Hashable]) -> Iterator[tuple[Hashable, int]]:
    """Each item with how often it came before: what two texts share of these is what both hold, repetitions counted."""
    before: Counter[Hashable] = Counter()
    for item in items:
        yield item, before[item]
        before[item] += 1


def _numbered(texts: Sequence[Text]) -> tuple[Counts, Counts, Counts]:
    """All words as numbers; where each sentence begins among them, and the end; each text's first sentence likewise."""
    numbers: dict[str, int] = {}
    sentences = [sentence for text in texts for sentence in text.sentences]
    words = [numbers.setdefault(word, len(numbers)) for word in chain.from_iterable(sentences)]
    starts = np.cumsum([0, *map(len, sentences)], dtype=np.int64)
    firsts = np.cumsum([0, *(len(text.sentences) for text in texts)], dtype=np.int64)
    return np.array(words, dtype=np.int64), starts, firsts


@njit(cache=True, nogil=True)
def _lengths(reference: Counts, hypothesis: Counts, lengths: Counts) -> None:
    """The dynamic programme of the longest common subsequence: lengths[i, j] of the first i and j words."""
    for i in range(1, len(reference) + 1):
        for j in range(1, len(hypothesis) + 1):
            if reference[i - 1] == hypothesis[j - 1]:
                lengths[i, j] = lengths[i - 1, j - 1] + 1
            else:
                lengths[i, j] = max(lengths[i - 1, j], lengths[i, j - 1])


@njit(cache=True, nogil=True)
def _subsequence_lengths(words: Counts, starts: Counts) -> Counts:
    """The length of the longest common subsequence of each two texts, which begin at `starts`."""
    texts = len(starts) - 1
    longest = np.max(starts[1:] - starts[:-1]) + 1
    lengths = np.zeros((longest, longest), dtype=np.int64)
    common = np.zeros((texts, texts), dtype=np.int64)
    for h in range(texts):
        for r in range(h + 1):
            hypothesis, reference = words[starts[h] : starts[h + 1]], words[starts[r] : starts[r + 1]]
            _lengths(reference, hypothesis, lengths)
            common[h, r] = common[r, h] = lengths[len(reference), len(hypothesis)]
    return common


@njit(cache=True, nogil=True)
def _united_subsequences(words: Counts, starts: Counts, firsts: Counts) -> Counts:
    """The distinct words in the common subsequences of any two sentences, of each two texts.

    Of several subsequences it is the one that `rouge` 1.0.1 reconstructs.
    """
    texts = len(firsts) - 1
    longest = np.max(starts[1:] - starts[:-1]) + 1 if len(words) else 1
    lengths = np.zeros((longest, longest), dtype=np.int64)
    common = np.zeros((texts, texts), dtype=np.int64)
    counted_for = np.full(np.max(words) + 1 if len(words) else 1, -1)
    for h in range(texts):
        for r in range(texts):
            for s in range(firsts[r], firsts[r + 1]):
                for t in range(firsts[h], firsts[h + 1]):
                    reference, hypothesis = words[starts[s] : starts[s + 1]], words[starts[t] : starts[t + 1]]
                    _lengths(reference, hypothesis, lengths)
                    i, j = len(reference), len(hypothesis)
                    while lengths[i, j]:
                        if reference[i - 1] == hypothesis[j - 1]:
                            i, j = i - 1, j - 1
                            if counted_for[reference[i]] != h * texts + r:
                                counted_for[reference[i]] = h * texts + r
                                common[h, r] += 1
                        elif lengths[i, j] == lengths[i, j - 1]:
                            j -= 1
                        else:
                            i -= 1
    return common
