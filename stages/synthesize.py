"""Write new dialogues with a language model, about the topics of training rows and as long as those.

Run with `python -m stages.synthesize`.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from stages.common.answers import Answers, Message
from stages.common.dialogue import parse_turns, speakers
from stages.common.errors import UserError, run_stage
from stages.common.generated import Rejected, Row, outcome, read_generated, sift, within_length_ratio
from stages.common.llm import ask
from stages.common.params import load_params
from stages.common.tables import AUGMENTED_COLUMNS, read_table, write_table

TRAIN = Path("data/clean/train.csv")
OUTPUT = Path("data/augmented/synthetic.csv")
ANSWERS = Path("data/answers/synthesize.jsonl")

INSTRUCTION = """\
당신은 한국어 일상 대화를 다루는 숙련된 작가입니다.
주제(topic)와 차례 수(turns)를 JSON으로 드리면, 새 대화(dialogue)와 요약(summary)을 쓰세요.
- 주제가 비어 있으면 일상의 주제를 하나 고릅니다.
- 차례마다 "#Person1#: "처럼 화자 표시로 시작하는 한 줄로 쓰고, 차례 수를 지킵니다.
- 화자는 두 명 이상이고, #Person1#이 먼저 말합니다.
- 실제로 나누는 대화처럼 자연스러운 한국어로 쓰고, 앞서 나온 대화를 베끼지 않습니다.
- 전화번호나 주소 같은 개인 정보는 지어내지 말고 #PhoneNumber#, #Address#처럼 표시로 씁니다.
- 요약은 대화에 있는 내용만으로, 화자를 #Person1#처럼 부르며 '다.'로 끝나는 3인칭 문장으로 씁니다.
설명 없이 JSON 객체 하나만 답하세요: {"dialogue": "...", "summary": "...", "topic": "..."}"""

NOTHING = "synthesize: n is 0, nothing to do (set augment.synthesize.n and an API key in .env to write dialogues)"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What one request asks for: the new row's fname, topic and number of turns, and the rows shown."""

    fname: str
    topic: str
    turns: int
    examples: list[Row]


def draw(rows: Sequence[Row], index: int, few_shot: int, seed: int) -> Plan:
    """Draw by seed the rows that a request shows, and one more that lends it topic and number of turns."""
    *examples, model = random.Random(f"{seed} {index}").sample(rows, few_shot + 1)
    return Plan(f"synth_{index}", model["topic"], len(parse_turns(model["dialogue"])), examples)


def conversation(plan: Plan) -> list[Message]:
    """The messages that ask for a new dialogue: each example is a question with its answer."""
    messages = [{"role": "system", "content": INSTRUCTION}]
    for row in plan.examples:
        answer = {name: row[name] for name in ("dialogue", "summary", "topic")}
        messages += [
            _question(row["topic"], len(parse_turns(row["dialogue"]))),
            _message("assistant", answer),
        ]
    return [*messages, _question(plan.topic, plan.turns)]


def _question(topic: str, turns: int) -> Message:
    return _message("user", {"topic": topic, "turns": turns})


def _message(role: str, content: dict[str, Any]) -> Message:
    return {"role": role, "content": json.dumps(content, ensure_ascii=False)}


def written(plan: Plan, answer: str) -> Row:
    """Make the row of an answer.

    Raises:
        Rejected: it cannot be read, one speaker talks alone, or it is far from the length asked for.
    """
    new = read_generated(answer)
    if len(speakers(new.dialogue)) < 2:
        raise Rejected("one speaker alone")
    if not within_length_ratio(len(parse_turns(new.dialogue)), plan.turns):
        raise Rejected("too few or too many turns")
    return {
        "fname": plan.fname,
        "dialogue": new.dialogue,
        "summary": new.summary,
        "topic": new.topic or plan.topic,
        "source": "synthetic",
    }


def main() -> None:
    params = load_params()
    answers = Answers(ANSWERS)
    n, few_shot = params.augment.synthesize.n, params.augment.synthesize.few_shot
    rows: list[Row] = []
    if n == 0:
        log.info(NOTHING)
    else:
        train = read_table(TRAIN, "train").reindex(columns=AUGMENTED_COLUMNS, fill_value="")
        if len(train) <= few_shot:
            raise UserError(
                f"augment.synthesize.few_shot = {few_shot}: must be below the {len(train)} rows of {TRAIN}; "
                "lower it, or raise data.limit"
            )
        examples = train.to_dict("records")
        plans = [draw(examples, index, few_shot, params.seed) for index in range(n)]
        texts = ask("synthesize", [conversation(plan) for plan in plans], params.augment.llm, answers)
        rows, rejected = sift(written, plans, texts)
        log.info("synthesize: %s", outcome(len(rows), rejected))
    write_table(pd.DataFrame(rows, columns=AUGMENTED_COLUMNS, dtype=str), OUTPUT)
    answers.save()


if __name__ == "__main__":
    run_stage(main)
