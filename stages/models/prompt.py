"""The one prompt builder: what a model reads before it writes a summary, in training and in generation."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from transformers import PreTrainedTokenizerBase

from stages.core.errors import UserError
from stages.core.files import read_json, write_json
from stages.corpus.dialogue import Turn, parse_turns, render_turns
from stages.models.prompt_styles import STYLES, Parts
from stages.models.registry import PromptStyle
from stages.models.text_encoder import TextEncoder

PROMPT_FILE = "prompt.json"
EARLIER_DATE = "2024-07-26"
"""Today to the chat template of an adapter whose prompt file has no date; Llama 3.1's template has it by itself."""


@dataclass(frozen=True)
class Example:
    """A dialogue with its summary, shown before the dialogue to summarize."""

    fname: str
    dialogue: str
    summary: str


@dataclass(frozen=True)
class PromptSettings:
    """All that shapes a prompt. The train stage saves it beside the adapter, so that generation cannot drift."""

    style: PromptStyle
    instruction: str
    max_tokens: int
    stop_token: str | None
    examples: tuple[Example, ...]
    date: str = EARLIER_DATE
    """The day, YYYY-MM-DD, that a chat template takes for today."""

    def save(self, folder: Path) -> None:
        write_json(folder / PROMPT_FILE, asdict(self))

    @staticmethod
    def load(folder: Path) -> PromptSettings:
        values: dict[str, Any] = read_json(folder / PROMPT_FILE)
        examples = tuple(Example(**example) for example in values.pop("examples"))
        return PromptSettings(**values, examples=examples)


def choose_examples(rows: Sequence[Example], n: int, seed: int) -> tuple[Example, ...]:
    """Draw `n` few-shot examples by seed.

    Raises:
        UserError: there are too few rows to draw from and leave one to train on.
    """
    if n >= len(rows):
        raise UserError(f"params.yaml: prompt.few_shot = {n}: the table has {len(rows)} original rows; take fewer")
    return tuple(random.Random(seed).sample(list(rows), n))


class PromptBuilder:
    """Turns dialogues into token ids for one tokenizer, and the ids that a model writes into text.

    The ids of a training row are the prompt's ids followed by the completion's, so the prompt that generation
    sees is by construction a prefix of what training saw. No text that stands in either is taken for a special token.

    Raises:
        UserError: the tokenizer lacks the stop token or, for the chat style, a chat template that can be used.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, settings: PromptSettings) -> None:
        self.tokenizer = tokenizer
        self.settings = settings
        stop = settings.stop_token or tokenizer.eos_token
        if stop is None or stop not in tokenizer.get_vocab():
            raise UserError(f"models.yaml: stop_token = {stop!r}: the tokenizer has no such token")
        if settings.style not in STYLES:
            raise UserError(f"{PROMPT_FILE}: style = {settings.style!r}: allowed: {', '.join(STYLES)}")
        self.encoder = TextEncoder(tokenizer, stop)
        self.stop_id: int = tokenizer.convert_tokens_to_ids(stop)
        # Padding is masked out, so any token serves. The first of a text is never written, and stands in the prompt
        # already, so that a repetition penalty treats a padded row like one that stands alone.
        pads = (tokenizer.pad_token_id, tokenizer.bos_token_id)
        self.pad_id: int = next((pad for pad in pads if pad is not None and pad != self.stop_id), 0)
        if self._ids("") == self._ids("#Person1#: 가"):  # a template that cannot be rendered says so by itself
            raise UserError(
                f"models.yaml: prompt = {settings.style!r}: the tokenizer's chat template leaves the dialogue out, as "
                "one does that wants messages in parts; use plain"
            )

    def completion_ids(self, summary: str) -> list[int]:
        """The summary's ids and the stop token."""
        return [*self.encoder.encode(summary), self.stop_id]

    def summary(self, ids: Iterable[int]) -> str:
        """The text of what a model wrote after a prompt, up to the stop token."""
        return self.encoder.decode(takewhile(lambda id: id != self.stop_id, ids))

    def prompt_ids(self, dialogue: str) -> list[int]:
        """The prompt's ids, at most `max_tokens` of them: turns that do not fit go, those in the middle first.

        Of a first turn too long to stand alone the opening is kept, up to the last word that fits.

        Args:
            dialogue: at least one turn.

        Raises:
            UserError: instruction and few-shot examples leave no room for a single character.
        """
        ids = self._ids(dialogue)
        if len(ids) <= self.settings.max_tokens:
            return ids
        turns = parse_turns(dialogue)
        shortened = self._longest(len(turns) - 1, lambda n: _outer(turns, n))
        if shortened is None:
            shortened = self._longest(len(turns[0].text), lambda n: [_opening(turns[0], n)])
        if shortened is None:
            raise UserError(
                f"params.yaml: prompt.max_tokens = {self.settings.max_tokens}: instruction and few-shot examples "
                f"alone take {len(self._ids(''))} tokens; raise it, or lower prompt.few_shot"
            )
        return shortened

    def is_truncated(self, dialogue: str) -> bool:
        """Whether the dialogue loses turns in its prompt."""
        return len(self._ids(dialogue)) > self.settings.max_tokens

    def _longest(self, most: int, shortened: Callable[[int], list[Turn]]) -> list[int] | None:
        """The ids of the longest of `shortened(1)` to `shortened(most)` that fits, found by halving."""
        fits = None
        low, high = 1, most
        while low <= high:
            middle = (low + high) // 2
            ids = self._ids(render_turns(shortened(middle)))
            if len(ids) <= self.settings.max_tokens:
                fits, low = ids, middle + 1
            else:
                high = middle - 1
        return fits

    def _ids(self, dialogue: str) -> list[int]:
        examples = tuple((example.dialogue, example.summary) for example in self.settings.examples)
        parts = Parts(self.settings.instruction, examples, dialogue, self.settings.date)
        return STYLES[self.settings.style](self.encoder, parts)


def _outer(turns: list[Turn], n: int) -> list[Turn]:
    """The `n` turns nearest to the beginning and the end; of an odd number, the beginning has one more."""
    return turns[: (n + 1) // 2] + turns[len(turns) - n // 2 :]


def _opening(turn: Turn, n: int) -> Turn:
    """At most `n` characters of a turn's beginning: whole words, as masks are, unless the first is longer."""
    opening = turn.text[:n]
    around = turn.text[n - 1 : n + 1]
    in_a_word = len(around) == 2 and not any(map(str.isspace, around))
    return Turn(turn.speaker, opening.rsplit(maxsplit=1)[0] if in_a_word else opening.rstrip())
