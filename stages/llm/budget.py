"""How many tokens answers take, and what they cost."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from stages.core.errors import UserError
from stages.core.params import Llm

BYTES_PER_TOKEN = 3
"""Of UTF-8, as an estimate on the safe side: a token a Hangul syllable. Gemma's tokenizer has 3.6 on the sample."""


@dataclass(frozen=True)
class Usage:
    """What a number of answers took, in tokens."""

    answers: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.answers + other.answers,
            self.prompt_tokens + other.prompt_tokens,
            self.completion_tokens + other.completion_tokens,
        )

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    def cost(self, settings: Llm) -> float:
        """In the currency of the prices; 0 where no price is set."""
        per_million = (
            self.prompt_tokens * settings.price_per_million_input
            + self.completion_tokens * settings.price_per_million_output
        )
        return per_million / 1e6

    def metrics(self, settings: Llm) -> dict[str, Any]:
        """The figures for a metrics file. How many answers were kept already is none: it differs between runs."""
        return {
            "answers": self.answers,
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "cost": round(self.cost(settings), 6),
        }

    def describe(self, settings: Llm) -> str:
        """The tokens, and the cost where there are prices: `1,200 prompt and 340 completion tokens, cost 0.0013`."""
        tokens = f"{self.prompt_tokens:,} prompt and {self.completion_tokens:,} completion tokens"
        return f"{tokens}, cost {self.cost(settings):.4f}" if has_prices(settings) else tokens


def has_prices(settings: Llm) -> bool:
    return settings.price_per_million_input + settings.price_per_million_output > 0


def estimate(messages: list[dict[str, str]], max_answer_tokens: int) -> Usage:
    """Guess what an answer to the messages will take.

    It is taken to be as long as the longest message after the system's: what is to be rewritten, or an example.
    """
    sizes = [len(message["content"].encode()) // BYTES_PER_TOKEN + 1 for message in messages]
    longest = max(size for size, message in zip(sizes, messages, strict=True) if message["role"] != "system")
    return Usage(1, sum(sizes), min(longest, max_answer_tokens))


def check_budget(settings: Llm) -> None:
    """Raise UserError where a cost is to be limited and no price is known."""
    if settings.max_cost and not has_prices(settings):
        raise UserError(
            f"augment.llm.max_cost = {settings.max_cost:g}: there is no price to count with; set "
            "augment.llm.price_per_million_input and price_per_million_output, or max_cost: 0"
        )


def reached_limit(usage: Usage, settings: Llm) -> str | None:
    """The limit that the usage has reached, as `augment.llm.max_cost = 5`, or None."""
    if settings.max_cost and usage.cost(settings) >= settings.max_cost:
        return f"augment.llm.max_cost = {settings.max_cost:g}"
    if settings.max_total_tokens and usage.tokens >= settings.max_total_tokens:
        return f"augment.llm.max_total_tokens = {settings.max_total_tokens}"
    return None
