"""Rewrite training rows with a language model: dialogue and summary together, their meaning kept.

Run with `python -m stages.paraphrase`.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stages.common.answers import Answers, Message
from stages.common.dialogue import speakers
from stages.common.errors import run_stage
from stages.common.generated import (
    Rejected,
    Row,
    masks,
    outcome,
    read_generated,
    sift,
    within_length_ratio,
)
from stages.common.llm import ask
from stages.common.params import load_params
from stages.common.tables import AUGMENTED_COLUMNS, read_table, write_table

TRAIN = Path("data/clean/train.csv")
OUTPUT = Path("data/augmented/paraphrase.csv")
ANSWERS = Path("data/answers/paraphrase.jsonl")

INSTRUCTION = """\
당신은 한국어 일상 대화를 다루는 숙련된 작가입니다.
대화(dialogue)와 그 요약(summary)을 JSON으로 드리면, 뜻은 그대로 두고 둘 다 다른 말로 고쳐 쓰세요.
- 등장하는 화자는 그대로이고, #Person1#이 먼저 말합니다.
- 차례마다 "#Person1#: "처럼 화자 표시로 시작하는 한 줄로 씁니다.
- #PhoneNumber#, #Address#처럼 #로 둘러싼 표시는 글자도 개수도 바꾸지 않습니다.
- 이름, 숫자, 날짜, 장소와 누가 무엇을 말하고 했는지는 바꾸지 않습니다.
- 실제로 나누는 대화처럼 자연스러운 한국어로, 원문과 비슷한 길이로 씁니다.
- 요약은 고쳐 쓴 대화에 있는 내용만으로, 원래 요약처럼 '다.'로 끝나는 3인칭 문장으로 씁니다.
설명 없이 JSON 객체 하나만 답하세요: {"dialogue": "...", "summary": "..."}"""

NOTHING = "paraphrase: n is 0, nothing to do (set augment.paraphrase.n and an API key in .env to rewrite rows)"

log = logging.getLogger(__name__)


def choose(rows: Sequence[Row], n: int, seed: int) -> list[Row]:
    """Choose n rows by seed, in table order; all of them where there are fewer.

    Each row draws its own lot, so that a larger n keeps the rows already chosen, and a row added or removed
    changes one choice at most.
    """
    lots = sorted(rows, key=lambda row: random.Random(f"{seed} {row['fname']}").random())
    chosen = {row["fname"] for row in lots[:n]}
    return [row for row in rows if row["fname"] in chosen]


def conversation(origin: Row) -> list[Message]:
    """The messages that ask for a row to be rewritten."""
    pair = {"dialogue": origin["dialogue"], "summary": origin["summary"]}
    return [
        {"role": "system", "content": INSTRUCTION},
        {"role": "user", "content": json.dumps(pair, ensure_ascii=False)},
    ]


def rewritten(origin: Row, answer: str) -> Row:
    """Make the row of an answer.

    Raises:
        Rejected: it cannot be read, or does not keep what the origin says.
    """
    new = read_generated(answer)
    if set(speakers(new.dialogue)) != set(speakers(origin["dialogue"])):
        raise Rejected("other speakers")
    if masks(new.dialogue) != masks(origin["dialogue"]) or masks(new.summary) != masks(origin["summary"]):
        raise Rejected("other masks")
    if not within_length_ratio(len(new.dialogue), len(origin["dialogue"])):
        raise Rejected("dialogue too short or too long")
    return {
        "fname": f"{origin['fname']}.para",
        "dialogue": new.dialogue,
        "summary": new.summary,
        "topic": origin["topic"],
        "source": "paraphrase",
    }


def main() -> None:
    params = load_params()
    answers = Answers(ANSWERS)
    n = params.augment.paraphrase.n
    rows: list[Row] = []
    if n == 0:
        log.info(NOTHING)
    else:
        train = read_table(TRAIN, "train").reindex(columns=AUGMENTED_COLUMNS, fill_value="")
        origins = choose(train.to_dict("records"), n, params.seed)
        if len(origins) < n:
            log.info("paraphrase: n is %d, all %d training rows are taken", n, len(origins))
        texts = ask("paraphrase", [conversation(row) for row in origins], params.augment.llm, answers)
        rows, rejected = sift(rewritten, origins, texts)
        log.info("paraphrase: %s", outcome(len(rows), rejected))
    write_table(pd.DataFrame(rows, columns=AUGMENTED_COLUMNS, dtype=str), OUTPUT)
    answers.save()


if __name__ == "__main__":
    run_stage(main)
