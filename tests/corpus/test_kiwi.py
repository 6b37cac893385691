from __future__ import annotations

import doctest

from stages.corpus import kiwi as module
from stages.corpus.kiwi import kiwi, mask_spans


def test_examples() -> None:
    assert doctest.testmod(module).failed == 0


def test_masks_and_tags_are_one_token_each_whatever_follows_them() -> None:
    text = "#Person1#과 #PhoneNumber#로"
    tokens = [token.form for token in kiwi().tokenize(text, pretokenized=mask_spans)]
    assert tokens == ["#Person1#", "과", "#PhoneNumber#", "로"]


def test_it_is_loaded_once_for_each_set_of_options() -> None:
    assert kiwi() is kiwi()
    assert kiwi(num_workers=1, load_multi_dict=False) is not kiwi()
