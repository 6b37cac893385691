"""Texts that say nearly the same, found by MinHash and compared exactly before anything is said of them.

Two texts are as similar as the sets of their character trigrams: the share that both have of all that either has
(Jaccard). Trigrams of letters and digits alone suit Korean, where spacing is loose and a particle or an ending is
part of its word: white space, punctuation, masks and speaker tags do not count, so that a dialogue and the same
one with its speakers exchanged are alike.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from rensa import RMinHash, RMinHashLSH

from stages.corpus.dialogue import MASK_OR_SPEAKER

_N = 3
_HASHES = 128
_MISSED = 0.01
_SEED = 1
_NO_LETTERS = re.compile(r"[\W_]+")


def similar_pairs(texts: Iterable[str], threshold: float) -> list[tuple[int, int, float]]:
    """Find the texts that are close to an earlier one: (position of the earlier, of the later, similarity).

    A later text stands in one pair, with the closest of the earlier texts that are not themselves the later of
    a pair: without the later ones, no two similar texts are left. Pairs come in the order of the later.

    Memory is 0.5 KB a text and, for the few that may have a similar one, the text itself. Of the pairs that are
    just at the threshold, MinHash misses one in a hundred at most, and next to none of those above it; every
    pair in the list is exact.

    Args:
        texts: iterated twice, so a list or an object that begins anew, and no generator.
        threshold: the least similarity, above 0 to 1.
    """
    bands, length = _bands(threshold)
    hashes = RMinHash.digest_matrix_from_token_sets(map(_tokens, texts), bands * length, _SEED)
    suspects = RMinHashLSH(threshold, bands * length, bands).query_duplicate_flags_matrix_one_shot(hashes)
    index = Index((), threshold)
    kept: list[int] = []
    pairs: list[tuple[int, int, float]] = []
    for position, (text, suspect) in enumerate(zip(texts, suspects, strict=True)):
        if not suspect:
            continue
        found = index.closest(text)
        if found:
            pairs.append((kept[found[0]], position, found[1]))
        else:
            index.add(text)
            kept.append(position)
    return pairs


class Index:
    """Texts that others are compared with.

    A text takes 2.5 KB at a threshold of 0.8 and 6 KB at 0.3: of two collections index the smaller.
    """

    def __init__(self, texts: Iterable[str], threshold: float) -> None:
        """Index texts under their positions, 0, 1, ...; `threshold` is the least similarity, above 0 to 1."""
        bands, length = _bands(threshold)
        self._threshold = threshold
        self._hashes = bands * length
        self._bands = RMinHashLSH(threshold, self._hashes, bands)
        self._texts: list[str] = []
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Index one more text, under the next position."""
        normal = normalise(text)
        if normal:
            self._bands.insert(len(self._texts), self._hash(normal))
        self._texts.append(normal)

    def closest(self, text: str) -> tuple[int, float] | None:
        """The position and the similarity of the most similar text, the first of equals; None if none is similar."""
        normal = normalise(text)
        if not normal:
            return None
        ngrams = _ngrams(normal)
        candidates = sorted(self._bands.query(self._hash(normal)))
        found = [(position, _jaccard(ngrams, _ngrams(self._texts[position]))) for position in candidates]
        best = max(found, key=lambda candidate: candidate[1], default=(0, 0.0))
        return best if best[1] >= self._threshold else None

    def _hash(self, normal: str) -> RMinHash:
        return RMinHash.from_token_sets([list(_ngrams(normal))], self._hashes, _SEED)[0]


def similarity(text: str, other: str) -> float:
    """The Jaccard similarity of two texts, 0 to 1; 0 where one has neither letters nor digits."""
    return _jaccard(_ngrams(normalise(text)), _ngrams(normalise(other)))


def normalise(text: str) -> str:
    """What of a text is compared: its letters and digits in one line, in their usual forms, small."""
    return _NO_LETTERS.sub("", unicodedata.normalize("NFKC", MASK_OR_SPEAKER.sub("", text)).casefold())


def _ngrams(normal: str) -> set[str]:
    """The trigrams of a normalised text; of a shorter one the text itself, of an empty one nothing."""
    return {normal[start : start + _N] for start in range(max(len(normal) - _N + 1, 1))} - {""}


def _tokens(text: str) -> list[str]:
    return list(_ngrams(normalise(text)))


def _jaccard(ngrams: set[str], others: set[str]) -> float:
    return len(ngrams & others) / len(ngrams | others) if ngrams and others else 0.0


def _bands(threshold: float) -> tuple[int, int]:
    """How many bands of how many hashes: texts are compared exactly if they agree in all hashes of one band.

    The longer the bands, the fewer texts are compared in vain, and the more that are similar are missed: just at
    the threshold _MISSED of them at most.
    """
    lengths = range(1, _HASHES // 8 + 1)
    length = max((n for n in lengths if (1 - threshold**n) ** (_HASHES // n) <= _MISSED), default=1)
    return _HASHES // length, length
