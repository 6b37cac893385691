"""What is mended in a summary after the model wrote it: rules from text to text, each with a name and an example."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable

from stages.corpus.thinking import without_thinking
from stages.decoding.clauses import without_repeated_clauses

PostprocessRule = Callable[[str], str]

_SPACE_AFTER_TAG = re.compile(r"(#Person\d+#) (?=(?:은|는|이|가|을|를|과|와|의|에게|도)(?:\s|$))")
_SENTENCE = re.compile(r"""\S.*?[.!?…]+["'”’)\]]*(?=\s|$)|\S.*$""")
_COMPLETE = re.compile(r"""([.!?…]|[다요죠])["'”’)\]]*$""")


def one_line(text: str) -> str:
    """A text with single spaces for any white space: what a table and a submission hold.

    >>> one_line(" #Person1#은\\n웃습니다.\\n")
    '#Person1#은 웃습니다.'
    """
    return " ".join(text.split())


def thinking(text: str) -> str:
    """Drop what a model thinks before it answers, whether it or its prompt opened that.

    >>> thinking("<think>먼저 읽자.</think> 둘은 만납니다."), thinking("먼저 읽자.</think> 둘은 만납니다.")
    ('둘은 만납니다.', '둘은 만납니다.')
    """
    return one_line(without_thinking(text))


def particles(text: str) -> str:
    """Close the space between a speaker and its particle.

    >>> particles("#Person1# 은 은행에 갑니다.")
    '#Person1#은 은행에 갑니다.'
    """
    return _SPACE_AFTER_TAG.sub(r"\1", text)


def repeated(text: str) -> str:
    """Keep each sentence once, where it stands first.

    >>> repeated("둘은 만납니다. 둘은 웃습니다. 둘은 만납니다.")
    '둘은 만납니다. 둘은 웃습니다.'
    """
    return " ".join(dict.fromkeys(sentences(text)))


def clauses(text: str) -> str:
    """Drop a clause that only repeats an earlier one.

    >>> clauses("#Person1#은 커피를 마시고, 커피를 마십니다.")
    '#Person1#은 커피를 마십니다.'
    """
    return " ".join(without_repeated_clauses(sentences(text)))


def unfinished(text: str) -> str:
    """Drop a last sentence that was cut off, if a whole one stands before it.

    >>> unfinished("둘은 만납니다. 그리고 #Person1#"), unfinished("그리고 #Person1#")
    ('둘은 만납니다.', '그리고 #Person1#')
    """
    parts = sentences(text)
    if len(parts) > 1 and not _COMPLETE.search(parts[-1]):
        return " ".join(parts[:-1])
    return text


RULES: dict[str, PostprocessRule] = {
    "thinking": thinking,
    "particles": particles,
    "repeated": repeated,
    "clauses": clauses,
    "unfinished": unfinished,
}
"""By name, in the order in which they apply."""


def process(text: str, names: Iterable[str] = tuple(RULES)) -> str:
    """A summary as one line, after the rules of these names, in the order of `RULES`."""
    chosen = set(names)
    text = one_line(text)
    for name, rule in RULES.items():
        if name in chosen:
            text = rule(text)
    return text


def sentences(text: str) -> list[str]:
    """The sentences of one line; a "." inside a number ends none.

    >>> sentences("3.5점입니다. 그래? 네")
    ['3.5점입니다.', '그래?', '네']
    """
    return _SENTENCE.findall(text)
