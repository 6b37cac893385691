"""A server on loopback that spoils a share of its replies and counts them, and a process that asks it.

python -m tests.unreliable_openai BASE_URL ANSWERS COUNT CONCURRENCY
"""

from __future__ import annotations

import logging
import random
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.core.errors import run_stage
from stages.llm.answer_store import Answers, Message
from stages.llm.ask import ask
from tests.fake_openai import FakeOpenAI, Fault, Messages, completion
from tests.llm_settings import llm_settings

FAULTS = {
    "429": Fault(429),
    "429 with Retry-After": Fault(429, headers={"Retry-After": "0.05"}),
    "500": Fault(500),
    "503": Fault(503, "upstream is gone", {"Content-Type": "text/plain"}),
    "reset": Fault(200, "{}" * 100, breaks="reset"),
    "stalled": Fault(200, "{}" * 100, breaks="stalls"),
    "malformed": Fault(200, '{"choices": [{"mess'),
}


def text_for(question: str) -> str:
    """The answer; every tenth speaks for somebody who is not there, which is the quality checks' business."""
    number = int(question.split()[-1])
    return f"#Person{9 if number % 10 == 0 else 1}#: {question}에 답합니다."


class UnreliableOpenAI(FakeOpenAI):
    """Spoils `share` of the replies, by a fixed seed: with one of FAULTS, or by cutting off a text the first time."""

    def __init__(self, share: float) -> None:
        super().__init__(lambda messages: text_for(messages[-1]["content"]))
        self.share = share
        self.injected: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        """Good replies sent, by question; some may have met a client that was killed."""
        self._random = random.Random(0)
        self._cut_off: set[str] = set()

    def _answer(self, path: str, authorization: str, body: dict[str, Any]) -> Fault:
        messages: Messages = body["messages"]
        question = messages[-1]["content"]
        with self._lock:
            kind = self._draw(question)
            if kind is None:
                self.answered[question] += 1
            else:
                self.injected[kind] += 1
        if kind is None:
            return super()._answer(path, authorization, body)
        if kind == "cut off":
            return completion(text_for(question)[:9], "length")
        return FAULTS[kind]

    def _draw(self, question: str) -> str | None:
        if self._random.random() >= self.share:
            return None
        kind = self._random.choice([*FAULTS, "cut off"])
        if kind == "cut off" and question in self._cut_off:  # a second time the client would take it
            return None
        if kind == "cut off":
            self._cut_off.add(question)
        return kind


class Questions:
    """So many conversations, each made when it is asked for."""

    def __init__(self, count: int) -> None:
        self.count = count

    def __iter__(self) -> Iterator[list[Message]]:
        for number in range(self.count):
            yield [{"role": "user", "content": f"질문 {number}"}]


def main() -> None:
    base_url, path, count, concurrency = sys.argv[1:]
    settings = llm_settings(base_url=base_url, concurrency=int(concurrency), timeout=3.0)
    answers = Answers(Path(path))
    ask("paraphrase", Questions(int(count)), settings, answers)
    answers.save()
    logging.getLogger(__name__).info("done")


if __name__ == "__main__":
    run_stage(main)
