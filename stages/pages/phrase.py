"""What the pages say themselves, in English and in Korean; base.html shows what the reader's browser prefers."""

from __future__ import annotations

from markupsafe import Markup


class Phrase(str):
    """English text with its Korean: as HTML an element that holds the one and knows the other.

    Elsewhere it is its English text, equal to it and of the same hash. In an attribute, and in an element that may hold
    only text (`title`, `option`), a template writes `english` and `attribute` instead.
    """

    korean: str

    def __new__(cls, english: str, korean: str) -> Phrase:
        phrase = super().__new__(cls, english)
        phrase.korean = korean
        return phrase

    @property
    def english(self) -> str:
        return str(self)

    @property
    def attribute(self) -> Markup:
        """What tells base.html the Korean of an element, with the space before it."""
        return Markup(' data-ko="{}"').format(self.korean)

    def __html__(self) -> Markup:
        return Markup("<span{}>{}</span>").format(self.attribute, self.english)


def say(english: str, korean: str, **values: object) -> Phrase:
    """Both texts, with the values in their places: `say("{n} rows", "{n}행", n=3)`.

    Raises:
        KeyError: a text names a value that is not given.
    """
    return Phrase(
        english.format(**{name: str(value) for name, value in values.items()}),
        korean.format(**{name: getattr(value, "korean", str(value)) for name, value in values.items()}),
    )
