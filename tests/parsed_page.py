"""HTML pages and their parts, as tests look at them."""

from __future__ import annotations

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


def part(name: str) -> Callable[..., str]:
    """A macro of parts.html, which gives HTML."""
    macro: Callable[..., str] = getattr(environment().get_template("parts.html").module, name)
    return macro
