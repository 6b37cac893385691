"""What a reasoning model thinks before it answers, and the tags that the models of today put around it."""

from __future__ import annotations

import re

_NAMES = ("think", "thinking", "thought", "thoughts", "reasoning", "reflection", "analysis", "scratchpad", "seed:think")

TAGS: tuple[tuple[str, str], ...] = (
    *((f"<{name}>", f"</{name}>") for name in _NAMES),
    ("[THINK]", "[/THINK]"),  # Magistral
    ("◁think▷", "◁/think▷"),  # Kimi
    ("<|channel>", "<channel|>"),  # Gemma 4
    ("<unused94>", "<unused95>"),  # MedGemma
    ("<|think|>", "<|content|>"),  # Solar Open
    ("<|inner_prefix|>", "<|inner_suffix|>"),  # Apertus
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    ("<|begin_of_thought|>", "<|end_of_thought|>"),  # OpenThinker
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
    ("<|channel|>commentary<|message|>", "<|channel|>final<|message|>"),
)
"""How thinking opens and closes."""

_OPENING, _CLOSING = ("|".join(map(re.escape, dict.fromkeys(tags))) for tags in zip(*TAGS, strict=True))
_TAG = re.compile(f"(?P<opening>{_OPENING})|{_CLOSING}", re.IGNORECASE)


def without_thinking(text: str) -> str:
    """What is left of an answer without its thinking.

    A closing tag that nothing opened stands after thinking that the prompt opened: all before it goes. Thinking that
    was cut off before its end goes too.

    >>> without_thinking("<think>읽자.</think>둘은 만납니다."), without_thinking("읽자.</think>둘은 만납니다.")
    ('둘은 만납니다.', '둘은 만납니다.')
    """
    while _TAG.search(text):  # what stood around a tag may make another
        text = _answer(text)
    return text


def _answer(text: str) -> str:
    kept: list[str] = []
    begin: int | None = 0  # of an answer; none while the model thinks
    for tag in _TAG.finditer(text):
        if tag["opening"]:
            kept += [] if begin is None else [text[begin : tag.start()]]
            begin = None
        else:
            if begin is not None:
                kept.clear()
            begin = tag.end()
    return "".join(kept) + ("" if begin is None else text[begin:])
