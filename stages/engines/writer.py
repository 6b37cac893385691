"""What an engine is to the stages: it turns dialogues into summaries, as the model wrote them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from stages.core.params import Decoding
from stages.engines.batches import Limits, Tell
from stages.engines.settings import DecodingSettings


@dataclass(frozen=True)
class Sampling:
    """Summaries drawn at random; the same seed and dialogue give the same ones, in any batch."""

    count: int
    temperature: float
    seed: int


class Writer(Protocol):
    """Turns dialogues into summaries, as the model wrote them."""

    def prepare(self, dialogues: Sequence[str]) -> list[int]:
        """Get ready for these dialogues: the tokens of each one's prompt."""

    def limits(self, decoding: Decoding) -> Limits:
        """The most to write at once."""

    def write(self, dialogues: Sequence[str], settings: DecodingSettings, limits: Limits, tell: Tell) -> list[str]:
        """For each dialogue the best that a search finds; the first dialogue is the longest."""

    def candidates(
        self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling | None = None
    ) -> list[list[str]]:
        """For each dialogue what a search finds, best first, and then samples; all at once."""

    def samples(
        self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling, limits: Limits
    ) -> list[list[str]]:
        """For each dialogue only samples; the first dialogue is the longest."""
