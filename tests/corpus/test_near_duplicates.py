from __future__ import annotations

import itertools
import random
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.corpus.near_duplicates import Index, normalise, similar_pairs, similarity
from stages.corpus.tables import read_table

ROOT = Path(__file__).parents[2]
DIALOGUES = list(read_table(ROOT / "data/sample/train.csv", "train")["dialogue"])
WORDS = sorted({word for dialogue in DIALOGUES for word in dialogue.split()})


def changed(text: str, words: int, seed: int) -> str:
    """A text with so many of its words exchanged."""
    rng = random.Random(seed)
    parts = text.split(" ")
    for place in rng.sample(range(1, len(parts)), words):
        parts[place] = rng.choice(WORDS)
    return " ".join(parts)


def test_only_letters_and_digits_are_compared() -> None:
    one = "#Person1#: 내일 3시에 만나요!\n#Person2#: 네, OK… 제 번호는 #PhoneNumber#예요."
    other = "#Person2#: 내일３시에 만나요\r\n#Person1#: 네 ok 제 번호는 #Email# 예요"
    assert normalise(one) == normalise(other) == "내일3시에만나요네ok제번호는예요"
    assert similarity(one, other) == 1.0


@pytest.mark.parametrize(
    ("text", "other", "expected"),
    [
        ("가나다라", "가나다라", 1.0),
        ("가나다라", "가나다마", 1 / 3),  # 가나다 나다라, 가나다 나다마
        ("가나다라마", "라마가나다", 1 / 5),
        ("가나", "가나", 1.0),
        ("가나", "가나다", 0.0),
        ("가나다", "", 0.0),
        ("...", "!", 0.0),
    ],
)
def test_similarity_is_the_share_of_common_trigrams(text: str, other: str, expected: float) -> None:
    assert similarity(text, other) == expected == similarity(other, text)


def test_a_later_text_is_paired_with_the_closest_that_stays() -> None:
    first, second = DIALOGUES[0], DIALOGUES[1]
    texts = [first, second, changed(first, 2, 1), "", changed(first, 1, 2), "#Person1#: ", second]
    pairs = similar_pairs(texts, 0.6)
    assert [(earlier, later) for earlier, later, _ in pairs] == [(0, 2), (0, 4), (1, 6)]
    assert all(value == similarity(texts[earlier], texts[later]) for earlier, later, value in pairs)
    assert pairs[2][2] == 1.0


def test_the_pairs_are_those_that_comparing_all_with_all_finds() -> None:
    texts = [*DIALOGUES, *(changed(dialogue, 1 + seed % 12, seed) for seed, dialogue in enumerate(DIALOGUES))]
    similarities = {
        pair: similarity(*(texts[place] for place in pair)) for pair in itertools.combinations(range(160), 2)
    }
    for threshold in (0.5, 0.7, 0.8, 0.9):
        expected: dict[int, tuple[int, int, float]] = {}
        for later in range(160):
            earlier = [(place, later, similarities[place, later]) for place in range(later) if place not in expected]
            best = max(earlier, key=lambda pair: pair[2], default=(0, 0, 0.0))
            if best[2] >= threshold:
                expected[later] = best
        pairs = similar_pairs(texts, threshold)
        assert set(pairs) <= set(expected.values())
        assert len(pairs) >= 0.95 * len(expected) >= 9


@settings(max_examples=50, deadline=None)
@given(st.lists(st.text("가나다라 #.", max_size=12), max_size=12), st.sampled_from([0.5, 0.8, 1.0]))
def test_no_pair_is_less_similar_than_the_threshold(texts: list[str], threshold: float) -> None:
    pairs = similar_pairs(texts, threshold)
    laters = {later for _, later, _ in pairs}
    assert len(laters) == len(pairs)
    for earlier, later, value in pairs:
        assert earlier < later
        assert earlier not in laters
        assert value == similarity(texts[earlier], texts[later]) >= threshold
    # Equal texts have equal hashes, so that none of them is ever missed.
    kept = [normalise(text) for place, text in enumerate(texts) if place not in laters]
    assert all(one != other for one, other in itertools.combinations(filter(None, kept), 2))


def test_the_closest_text_of_an_index() -> None:
    dialogue = DIALOGUES[0]
    index = Index([DIALOGUES[1], changed(dialogue, 3, 1), "", dialogue, dialogue], 0.5)
    assert index.closest(dialogue) == (3, 1.0)
    assert index.closest(DIALOGUES[5]) is None
    assert index.closest("") is None
    index.add(DIALOGUES[5])
    assert index.closest(DIALOGUES[5]) == (5, 1.0)


def test_an_index_without_texts() -> None:
    assert Index((), 0.8).closest(DIALOGUES[0]) is None
    assert similar_pairs([], 0.8) == []


def test_a_text_just_below_the_threshold_is_not_similar() -> None:
    text, other = DIALOGUES[0], changed(DIALOGUES[0], 3, 1)
    value = similarity(text, other)
    assert Index([text], value).closest(other) == (0, value)
    assert Index([text], value + 1e-9).closest(other) is None


def test_results_do_not_depend_on_the_process() -> None:
    program = (
        "from stages.corpus.near_duplicates import similar_pairs; import sys;"
        "texts = sys.stdin.read().split('\\n');"
        "print(similar_pairs([text[:n] for n in (90, 100) for text in texts], 0.8))"
    )
    texts = "\n".join(dialogue.replace("\n", " ") for dialogue in DIALOGUES)
    outputs = {
        subprocess.run(
            [sys.executable, "-c", program],
            input=texts,
            cwd=ROOT,
            env={"PYTHONHASHSEED": seed, "RAYON_NUM_THREADS": seed, "PYTHONUTF8": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert len(outputs) == 1
    assert "(0, 80, " in outputs.pop()
