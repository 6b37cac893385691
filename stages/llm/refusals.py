"""Whether refusals are about single rows, or the server refuses whatever it is asked."""

from __future__ import annotations

from collections import deque

from stages.core.errors import UserError
from stages.core.params import Llm
from stages.llm.answer_store import Answer, Answers

FEW, LATEST = 8, 16
"""A run stops where more than half of its latest answers, FEW to LATEST of them, are refusals."""


class Refusals:
    """Those of one run, counted as its answers come.

    What the server refuses costs nothing. It is held, and kept among the answers once the run is over: not where the
    run stops for it, so that the next one asks again.
    """

    def __init__(self, settings: Llm) -> None:
        self._settings = settings
        self._latest: deque[bool] = deque(maxlen=LATEST)
        self._held: list[tuple[str, Answer]] = []

    def hold(self, key: str, answer: Answer) -> None:
        """Count a request that the server refuses."""
        self._held.append((key, answer))
        self.count(answer)

    def count(self, answer: Answer) -> None:
        """Count an answer.

        Raises:
            UserError: most of the latest ones are refusals.
        """
        self._latest.append(answer.refused)
        if len(self._latest) >= FEW:
            self._check(answer)

    def keep(self, answers: Answers) -> None:
        """Keep what was held, at the end of a run.

        Raises:
            UserError: the run was too short to stop before, and the server refused most of it, one row being no most.
        """
        if len(self._held) > 1:
            self._check(self._held[-1][1])
        for key, answer in self._held:
            answers.add(key, answer)

    def _check(self, last: Answer) -> None:
        refused, asked = sum(self._latest), len(self._latest)
        if refused > asked / 2:
            raise UserError(
                f"augment.llm.base_url = {self._settings.base_url!r}: {refused} of the latest {asked} requests are "
                f"refused, the last one with: {last.refusal or last.finish_reason}; see to the cause and run again, "
                "what was answered is kept"
            )
