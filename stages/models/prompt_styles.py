"""The ways to lay a prompt out, by the names that models.yaml gives them: the one table to add another to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class Encoder(Protocol):
    """What turns a layout into token ids: `stages.models.text_encoder`."""

    def encode(self, text: str, *, closed: bool = False) -> list[int]:
        """The ids of a text; `closed` adds what the tokenizer puts around each text, such as its first token."""

    def encode_chat(self, messages: list[dict[str, str]], date: str) -> list[int]:
        """The ids of a conversation in the tokenizer's chat template, up to where the assistant goes on."""


@dataclass(frozen=True)
class Parts:
    """What a prompt shows."""

    instruction: str
    examples: tuple[tuple[str, str], ...]
    """Dialogues with their summaries."""
    dialogue: str
    date: str
    """The day, YYYY-MM-DD, that a chat template takes for today."""


def plain(encoder: Encoder, parts: Parts) -> list[int]:
    """Headings around dialogues and summaries, for a model that knows no conversations."""
    shown = "".join(f"### 대화\n{dialogue}\n\n### 요약\n{summary}\n\n" for dialogue, summary in parts.examples)
    return encoder.encode(f"{parts.instruction}\n\n{shown}### 대화\n{parts.dialogue}\n\n### 요약\n", closed=True)


def chat(encoder: Encoder, parts: Parts) -> list[int]:
    """Turns of a user, who asks with the instruction, and an assistant, in the tokenizer's own chat template."""
    messages = []
    for dialogue, summary in parts.examples:
        messages.append({"role": "user", "content": f"{parts.instruction}\n\n{dialogue}"})
        messages.append({"role": "assistant", "content": summary})
    messages.append({"role": "user", "content": f"{parts.instruction}\n\n{parts.dialogue}"})
    return encoder.encode_chat(messages, parts.date)


STYLES: dict[str, Callable[[Encoder, Parts], list[int]]] = {"plain": plain, "chat": chat}
"""Each makes a prompt's ids, up to where the summary begins. It sees to it that the summary is not yet closed."""
