"""Fills the templates in templates/, which escape every text that they are given.

The same values make the same bytes, and a value that a template asks for and is not given is an error.
"""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from stages.pages.phrase import say

TEMPLATES = Path(__file__).with_name("templates")


def render(template: str, **values: object) -> str:
    """A whole page.

    Raises:
        jinja2.UndefinedError: the template needs a value that is not among these.
    """
    return environment().get_template(template).render(values)


@cache
def environment() -> Environment:
    found = Environment(
        loader=FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    found.filters |= {"number": number, "sha256": sha256_source}
    found.globals["say"] = say
    return found


def number(value: float | None) -> str:
    """A number to one decimal, which is left out where it is 0: `1,234`, `21.9`. None is a dash."""
    return "–" if value is None else f"{value:,.1f}".removesuffix(".0")


def sha256_source(script: str) -> str:
    """The name by which a content security policy allows this script, and no other: `sha256-` and base64."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"
