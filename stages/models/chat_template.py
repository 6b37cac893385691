"""Makes what a chat template writes a function of the messages alone: no clock, no chance."""

from __future__ import annotations

import re
from datetime import date as Date

from stages.core.errors import UserError

_MONTHS = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October"]
_MONTHS += ["November", "December"]
_WEEKDAYS = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"]
_BY_CHANCE = re.compile(r"\|\s*random\b|\blipsum\b")


def with_date(template: str, date: str) -> str:
    """A template in which it is always midnight of `date`, YYYY-MM-DD, whoever renders it.

    transformers gives templates the clock as the function `strftime_now`
    (https://huggingface.co/docs/transformers/chat_templating_writing), and Llama 3.2, gpt-oss, Granite and others write
    today's date by it. A macro of the same name stands before it. A template without it stays as it is.
    """
    if "strftime_now" not in template:
        return template
    pairs = list(_directives(Date.fromisoformat(date)).items())
    return (
        "{% macro strftime_now(format) %}{% set now = namespace(text=format) %}"
        f"{{% for code, text in {pairs} %}}{{% set now.text = now.text.replace(code, text) %}}{{% endfor %}}"
        # transformers drops the line end after a block.
        "{{ now.text }}{% endmacro %}\n"
    ) + template


def refuse_chance(template: str) -> None:
    """See that a template draws no random numbers.

    Raises:
        UserError: it does, by Jinja's filter `random` or its function `lipsum`.
    """
    found = _BY_CHANCE.search(template)
    if found:
        raise UserError(
            f"models.yaml: prompt = 'chat': the tokenizer's chat template writes something else each time "
            f"({found[0]!r}); use plain"
        )


def _directives(day: Date) -> dict[str, str]:
    """What each directive of strftime stands for at midnight of a day: in English, whatever the locale."""
    month, weekday = _MONTHS[day.month - 1], _WEEKDAYS[day.weekday()]
    year, week, weekday_number = day.isocalendar()
    short = f"{weekday[:3]} {month[:3]} {day.day:2d} 00:00:00"
    directives = {
        "%%": "\0",  # a sign that begins no directive, until all others are done
        "%c": f"{short} {day.year}",
        "%D": day.strftime("%m/%d/%y"),
        "%x": day.strftime("%m/%d/%y"),
        "%F": day.isoformat(),
        "%Y": f"{day.year:04d}",
        "%C": f"{day.year // 100:02d}",
        "%y": f"{day.year % 100:02d}",
        "%G": f"{year:04d}",
        "%g": f"{year % 100:02d}",
        "%B": month,
        "%b": month[:3],
        "%h": month[:3],
        "%m": f"{day.month:02d}",
        "%-m": f"{day.month}",
        "%d": f"{day.day:02d}",
        "%-d": f"{day.day}",
        "%e": f"{day.day:2d}",
        "%j": day.strftime("%j"),
        "%-j": day.strftime("%j").lstrip("0"),
        "%A": weekday,
        "%a": weekday[:3],
        "%u": f"{weekday_number}",
        "%w": f"{weekday_number % 7}",
        "%V": f"{week:02d}",
        "%U": day.strftime("%U"),
        "%W": day.strftime("%W"),
    }
    midnight = {"%H": "00", "%-H": "0", "%k": " 0", "%I": "12", "%-I": "12", "%l": "12", "%M": "00", "%-M": "0"}
    midnight |= {"%S": "00", "%-S": "0", "%f": "000000", "%p": "AM", "%P": "am", "%T": "00:00:00", "%X": "00:00:00"}
    midnight |= {"%R": "00:00", "%r": "12:00:00 AM", "%z": "", "%Z": ""}
    return directives | midnight | {"\0": "%"}
