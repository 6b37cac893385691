from __future__ import annotations

import re

import pytest
from jinja2 import UndefinedError, nodes

from stages.pages.phrase import Phrase, say
from stages.pages.rendering import TEMPLATES, environment, number, render, sha256_source
from tests.parsed_page import Page, in_english, part, texts

NAMES = [path.name for path in sorted(TEMPLATES.iterdir())]
HANGUL = re.compile("[가-힣]")


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


def test_a_phrase_is_its_english_and_knows_its_korean() -> None:
    phrase = say("{n} rows of {kind}", "{kind} {n}행", n=3, kind=Phrase("<dev>", '"개발"'))
    assert phrase == "3 rows of <dev>"
    assert hash(phrase) == hash("3 rows of <dev>")
    assert phrase.korean == '"개발" 3행'
    assert phrase.__html__() == '<span data-ko="&#34;개발&#34; 3행">3 rows of &lt;dev&gt;</span>'
    assert in_english(phrase.__html__()) == "3 rows of &lt;dev&gt;"


@pytest.mark.parametrize("name", NAMES)
def test_a_template_says_all_in_both_languages(name: str) -> None:
    tree = environment().parse((TEMPLATES / name).read_text(encoding="utf-8"))
    code = [block for block in tree.find_all(nodes.Block) if block.name in ("style", "script", "policy")]
    skipped = {id(data) for block in code for data in block.find_all(nodes.TemplateData)}
    written = "".join(data.data for data in tree.find_all(nodes.TemplateData) if id(data) not in skipped)
    assert set(re.findall(r"[A-Za-z가-힣]{2,}", " ".join(texts(written)))) <= {"ROUGE"}

    calls = [call for call in tree.find_all(nodes.Call) if getattr(call.node, "name", "") == "say"]
    said = {id(argument) for call in calls for argument in call.args}
    for text in (each for each in tree.find_all(nodes.Const) if isinstance(each.value, str) and id(each) not in said):
        assert not re.search(r"[A-Za-z]{2} [A-Za-z]{2}|[가-힣]", text.value), text.value
    for call in calls:
        english, korean = (argument.as_const() for argument in call.args)
        assert not HANGUL.search(english), english
        names = [sorted(re.findall(r"\{\w+\}", text)) for text in (english, korean)]
        assert names[0] == names[1], english
        own = re.search("[A-Za-z]{2}", re.sub(r"\{\w+\}|ROUGE", "", english))
        assert HANGUL.search(korean) if own else english == korean, english
