from __future__ import annotations

import re

import pytest
from jinja2 import UndefinedError, nodes

from stages.pages.rendering import TEMPLATES, environment, number, render, sha256_source
from tests.parsed_page import Page, part

NAMES = [path.name for path in sorted(TEMPLATES.iterdir())]


def test_a_value_that_is_missing_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="'address' is undefined"):
        render("demo.html")


def test_the_digest_is_that_of_the_script() -> None:
    # As `printf 'alert(1)' | openssl dgst -sha256 -binary | base64` has it.
    assert sha256_source("alert(1)") == "sha256-bhHHL3z2vDgxUt0W3dWQOrprscmda2Y5pLsLg4GF+pI="


def test_numbers() -> None:
    assert [number(value) for value in (1234, 21.94, 5.0, 0, None)] == ["1,234", "21.9", "5", "0", "–"]


def test_text_can_leave_neither_its_element_nor_its_attribute() -> None:
    evil = "\"'><script>alert(1)</script>{{ 7 * 7 }}"
    counts = {evil: {evil: {evil: 1.0}}}
    for shown in (part("number_table")(counts), part("bars")({evil: 1}), part("record_table")([{evil: evil}])):
        page = Page(shown)
        assert "script" not in page.tags
        assert "{{ 7 * 7 }}" in shown
        assert page.open == []
    page = Page(render("demo.html", address='/"><img src="x" onerror="alert(1)'))
    assert page.addresses == ["data:,", '/"><img src="x" onerror="alert(1)']
    assert "img" not in page.tags
    assert "onerror" not in page.attributes


@pytest.mark.parametrize("name", NAMES)
def test_no_template_opens_a_way_around_the_escaping(name: str) -> None:
    source = (TEMPLATES / name).read_text(encoding="utf-8")
    tree = environment().parse(source)
    assert not {node.name for node in tree.find_all(nodes.Filter)} & {"safe", "tojson", "urlize", "forceescape"}
    assert not list(tree.find_all(nodes.ScopedEvalContextModifier))
    assert not list(tree.find_all(nodes.MarkSafe))
    assert not re.search(r"=\s*\{\{", source), "an attribute without quotes"


@pytest.mark.parametrize("name", NAMES)
def test_no_value_stands_in_a_script_or_a_style(name: str) -> None:
    """There the escapes of HTML protect nothing."""
    for block in environment().parse((TEMPLATES / name).read_text(encoding="utf-8")).find_all(nodes.Block):
        if block.name in ("script", "style"):
            values = {value.name for value in block.find_all(nodes.Name)}
            assert values <= {"super"}, f"{name}: {block.name}"
