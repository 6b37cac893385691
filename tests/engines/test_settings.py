from __future__ import annotations

import doctest

import pytest

from stages.engines import settings as decoding
from stages.engines.settings import DecodingSettings, ending

STOP = 9
TEXTS = {1: "둘은 ", 2: "만납니다.", 3: "3.", STOP: ""}
FOUND = [(-0.1, 1), (-0.5, STOP), (-0.9, 2)]


def decode(ids: object) -> str:
    assert isinstance(ids, list)
    return "".join(TEXTS[token] for token in ids)


def test_examples() -> None:
    assert doctest.testmod(decoding).failed == 0


@pytest.mark.parametrize(
    ("ids", "allowed"),
    [([], [1, 2]), ([1], [1, 2]), ([1, 1], [1, STOP, 2]), ([1] * 4, [STOP]), ([1] * 9, [STOP])],
)
def test_between_the_shortest_and_the_longest_length_anything_goes(ids: list[int], allowed: list[int]) -> None:
    settings = DecodingSettings(max_new_tokens=20, min_length=0.1, max_length=0.2)
    assert [token for _, token in ending(settings, STOP, 20, decode).options(ids, FOUND)] == allowed


@pytest.mark.parametrize(
    ("ids", "allowed"), [([2], [1, STOP, 2]), ([1, 1], [1, STOP, 2]), ([1, 2], [STOP]), ([1, 3], [1, STOP, 2])]
)
def test_from_the_longest_length_on_a_sentence_end_is_an_end(ids: list[int], allowed: list[int]) -> None:
    settings = DecodingSettings(max_new_tokens=20, max_length=0.1, stop_at_sentence=True)
    assert [token for _, token in ending(settings, STOP, 20, decode).options(ids, FOUND)] == allowed


def test_the_shortest_length_leaves_room_for_the_stop_token() -> None:
    assert ending(DecodingSettings(max_new_tokens=8, min_length=1.0), STOP, 500, decode).least == 7
