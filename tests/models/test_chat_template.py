from __future__ import annotations

from datetime import date, datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from transformers.utils import chat_template_utils
from transformers.utils.chat_template_utils import render_jinja_template

from stages.core.errors import UserError
from stages.models.chat_template import refuse_chance, with_date

DIRECTIVES = [*"aAbBcCdDeFgGhHIjkmMpSTuUVwWxXyYrRz", "-d", "-m", "-j", "-H"]
MESSAGES = [{"role": "user", "content": "요약"}]

# As Llama 3.2, gpt-oss and Granite write it.
TEMPLATES = [
    "{{- bos }}\n{%- if not date_string is defined %}\n    {%- if strftime_now is defined %}\n"
    '        {%- set date_string = strftime_now("%d %b %Y") %}\n    {%- else %}\n'
    '        {%- set date_string = "1 Jan 2000" %}\n    {%- endif %}\n{%- endif %}\n{{- "Today: " + date_string }}',
    '{%- macro system() -%}{{- "Current date: " + strftime_now("%Y-%m-%d") + "\\n" }}{%- endmacro -%}\n{{ system() }}',
    "\n  {% if true %}\n\n{{ strftime_now('%B %d, %Y') }}\n  {% endif %}\n{{ strftime_now(format='100%% %-d') }}",
    "  {{ strftime_now('%A') }}",
]


class Clock(datetime):
    """A clock that stands."""

    stands_at = datetime(2026, 11, 3)

    @classmethod
    def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
        return cls.stands_at


def render(template: str) -> str:
    text: str = render_jinja_template([MESSAGES], chat_template=template, bos="<s>")[0][0]
    return text


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_writes_what_it_would_have_written_on_that_day(
    template: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chat_template_utils, "datetime", Clock)
    fixed = render(with_date(template, "2026-11-03"))
    assert fixed == render(template)
    monkeypatch.setattr(Clock, "stands_at", datetime(2027, 1, 31))
    assert fixed != render(template)
    assert render(with_date(template, "2026-11-03")) == fixed


@settings(deadline=None, max_examples=40)
@given(st.dates(date(1900, 1, 1)), st.lists(st.sampled_from(DIRECTIVES), min_size=1, max_size=20))
def test_every_directive_stands_for_midnight_of_the_day(day: date, directives: list[str]) -> None:
    form = " / ".join(f"%{directive}" for directive in directives) + " %%"
    expected = datetime(day.year, day.month, day.day).strftime(form)
    assert render(with_date(f"{{{{ strftime_now('{form}') }}}}", day.isoformat())) == expected


def test_a_template_without_a_date_stays_as_it_is() -> None:
    assert with_date("{{ messages[0].content }}", "2026-11-03") == "{{ messages[0].content }}"


@pytest.mark.parametrize("template", ["{{ ['a', 'b'] | random }}", "{{ ['a']|random }}", "{{ lipsum(n=1) }}"])
def test_a_template_that_draws_lots_is_refused(template: str) -> None:
    with pytest.raises(UserError, match=r"the tokenizer's chat template writes something else each time \(.*\); use"):
        refuse_chance(template)
    refuse_chance("{{ messages[0].content }} at random")
