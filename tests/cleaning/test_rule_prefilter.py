from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.cleaning.rule_prefilter import required_characters
from stages.cleaning.rules import load_rules

RULES = load_rules(Path(__file__).parents[2] / "data/rules/denoise.csv")


@pytest.mark.parametrize(
    ("pattern", "required"),
    [
        ("…+", ["…"]),
        ("[“”]", ["“”"]),
        (r"(?<=들)ㅣ(?=\s|$)", ["들", "ㅣ"]),
        (r"#+(?=,\d{3}(?!\d))", ["#", ","]),
        ("Person|사람", ["P사"]),
        ("a?b*(?:c|d*)", []),
        (r"[^a]\w\d.", []),
        ("[가-힣]x", ["x"]),
        ("(?i)br", []),
        ("(?i:b)r", ["r"]),
        ("(?>a)b++", ["a", "b"]),
        (r"(?P<one>a)(?P=one)", ["a"]),
        ("aa", ["a"]),
    ],
)
def test_required_characters(pattern: str, required: list[str]) -> None:
    assert list(required_characters(re.compile(pattern))) == [frozenset(each) for each in required]


@settings(max_examples=500, deadline=None)
@given(st.data())
def test_a_text_that_matches_a_rule_has_what_the_rule_requires(data: st.DataObject) -> None:
    rule = data.draw(st.sampled_from(RULES))
    text = data.draw(st.from_regex(rule.pattern))
    assert rule.pattern.search(text)
    assert not any(required.isdisjoint(text) for required in rule.required)
