from __future__ import annotations

from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.core.errors import UserError
from stages.corpus.folds import divide, without_fold
from stages.corpus.near_duplicates import similarity
from stages.corpus.origins import origins


def table(rows: list[tuple[str, str, str]]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["fname", "source", "dialogue"], dtype="str")


def dialogue(number: int) -> str:
    """One that is like no other of another number."""
    return f"#Person1#: {''.join(chr(0xAC00 + 97 * number + i) for i in range(12))}\n#Person2#: 네."


def test_copies_and_translations_are_named_after_their_origin() -> None:
    rows = {
        "train_1": ("original", "train_1"),
        "train_1.x": ("original", "train_1.x"),
        "train_1.swap": ("speaker_swap", "train_1"),
        "train_1.x.para": ("paraphrase", "train_1.x"),
        "synth_0": ("synthetic", ""),
        "english:train_1": ("extra:english", "train_1"),
        "english:train_1.2": ("extra:english", "train_1"),
        "english:train_1.x": ("extra:english", "train_1.x"),
        "english:train_1_2": ("extra:english", "train_1"),
        "english:train_1_2.2": ("extra:english", "train_1"),
        "english:train_5": ("extra:english", "train_5"),
        "english:train_5_1.2": ("extra:english", "train_5"),
    }
    train = table([(fname, source, "") for fname, (source, _) in rows.items()])
    assert dict(zip(train["fname"], origins(train), strict=True)) == {
        fname: origin for fname, (_, origin) in rows.items()
    }


@given(rows=st.integers(4, 30), n=st.integers(2, 6), seed=st.integers(0, 9), alike=st.integers(0, 3))
def test_folds_are_even_and_keep_together_what_is_alike(rows: int, n: int, seed: int, alike: int) -> None:
    originals = [(f"train_{number}", "original", dialogue(number)) for number in range(rows)]
    twins = [(f"twin_{number}", "original", f"{dialogue(number)} 응.") for number in range(alike)]
    copies = [(f"train_{number}.swap", "speaker_swap", dialogue(number)) for number in range(0, rows, 2)]
    train = table([*originals, *twins, *copies])
    if rows < n:
        with pytest.raises(UserError, match=rf"folds\.n = {n}: the table has {rows} original rows that differ"):
            divide(train, n, seed, 0.6)
        return
    folds = divide(train, n, seed, 0.6)
    assert folds == divide(train.sample(frac=1, random_state=1), n, seed, 0.6)
    assert sorted(folds) == sorted(fname for fname, *_ in [*originals, *twins])
    sizes = Counter(folds.values())
    assert sizes.keys() == set(range(n))
    assert max(sizes.values()) - min(sizes.values()) <= 2
    assert all(folds[f"twin_{number}"] == folds[f"train_{number}"] for number in range(alike))
    for number in range(n):
        kept = without_fold(train, folds, number, 0.6)
        held_out = [fname for fname, of in folds.items() if of == number]
        assert not set(origins(kept)) & set(held_out)
        assert set(kept["fname"]) == {fname for fname in train["fname"] if origin_of(fname) not in held_out}


def origin_of(fname: str) -> str:
    return fname.removesuffix(".swap")


def test_a_new_row_like_one_that_is_held_out_leaves_too() -> None:
    train = table(
        [
            ("train_0", "original", dialogue(0)),
            ("train_1", "original", dialogue(1)),
            ("synth_0", "synthetic", f"{dialogue(0)} 응."),
            ("synth_1", "synthetic", dialogue(2)),
            ("own:train_0", "extra:own", dialogue(3)),
        ]
    )
    assert similarity(dialogue(0), f"{dialogue(0)} 응.") > 0.6
    folds = {"train_0": 0, "train_1": 1}
    assert without_fold(train, folds, 0, 0.6)["fname"].tolist() == ["train_1", "synth_1"]
    assert without_fold(train, folds, 1, 0.6)["fname"].tolist() == ["train_0", "synth_0", "synth_1", "own:train_0"]


def test_another_seed_divides_otherwise() -> None:
    train = table([(f"train_{number}", "original", dialogue(number)) for number in range(12)])
    assert len({str(divide(train, 3, seed, 0.6)) for seed in range(5)}) == 5


def test_what_a_row_alike_has_left_elsewhere_leaves_with_it() -> None:
    """Of a chain of likenesses, a later row may be in another fold than the row between."""
    rows = [
        ("train_1", "original", dialogue(1)),
        ("train_2", "original", dialogue(2)),
        ("train_2.swap", "speaker_swap", dialogue(3)),  # says what train_2 says, in other words
        ("train_4", "original", dialogue(4)),
        ("own:train_1_2", "extra:own", dialogue(5)),
        ("own:train_1_3.2", "extra:own", dialogue(6)),
        ("own:new", "extra:own", dialogue(7)),
        ("synth_0", "synthetic", dialogue(8)),
    ]
    rows[1] = ("train_2", "original", f"{dialogue(1)} 응.")
    kept = without_fold(table(rows), {"train_1": 0, "train_2": 1, "train_4": 1}, 0, 0.6)
    assert kept["fname"].tolist() == ["train_4", "own:new", "synth_0"]


def test_a_fold_that_leaves_nothing_to_learn() -> None:
    rows = [("train_1", "original", dialogue(1)), ("train_2", "original", f"{dialogue(1)} 응.")]
    with pytest.raises(UserError, match=r"folds\.n: all rows are of fold 1 or like one of it; lower it"):
        without_fold(table(rows), {"train_1": 0, "train_2": 1}, 0, 0.6)
