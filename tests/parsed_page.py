"""HTML pages and their parts, as tests look at them."""

from __future__ import annotations

import re
from collections.abc import Callable
from html.parser import HTMLParser

from stages.pages.rendering import environment


class Page(HTMLParser):
    """What a page is made of; raises where an element is closed that is not the one last opened."""

    VOID = ("meta", "input", "link")

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.rows: list[dict[str, str | None]] = []
        self.addresses: list[str | None] = []
        self.attributes: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes |= {name for name, _ in attrs}
        self.addresses += [value for name, value in attrs if name in ("src", "href", "action", "data", "srcset")]
        if ("class", "row") in attrs:
            self.rows.append(dict(attrs))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


class _Texts(HTMLParser):
    """What a page says to its reader: texts, and the attributes that are read or shown."""

    SILENT = ("style", "script", "textarea", "code")
    SPOKEN = ("aria-label", "title", "placeholder", "alt")

    def __init__(self, page: str) -> None:
        super().__init__()
        self.silent = 0
        self.found: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.silent += tag in self.SILENT
        self.found += [value for name, value in attrs if name in self.SPOKEN and value]

    def handle_endtag(self, tag: str) -> None:
        self.silent -= tag in self.SILENT

    def handle_data(self, data: str) -> None:
        if not self.silent and data.strip():
            self.found.append(data.strip())


def texts(page: str) -> list[str]:
    """What a page, or a part of it, says to its reader, in its order."""
    return _Texts(page).found


def part(name: str) -> Callable[..., str]:
    """A macro of parts.html, which gives HTML."""
    macro: Callable[..., str] = getattr(environment().get_template("parts.html").module, name)
    return macro


_SAID = re.compile(r'<(span|title|option)([^>]*) data-ko="([^"]*)">([^<]*)</\1>')
"""What a page says itself, see stages/pages/phrase.py."""


def in_english(text: str) -> str:
    """A page as a browser shows it to a reader of English, without what it keeps in Korean."""
    return _SAID.sub(lambda said: said[4] if said[1] == "span" else f"<{said[1]}{said[2]}>{said[4]}</{said[1]}>", text)


def in_korean(text: str) -> str:
    """A page as a browser shows it to a reader of Korean."""
    return _SAID.sub(lambda said: said[3] if said[1] == "span" else f"<{said[1]}{said[2]}>{said[3]}</{said[1]}>", text)
