"""Write new dialogues with a language model: about the topics of training rows, as long as those, in several styles.

    python -m stages.synthesize
    python -m stages.synthesize --dry-run    # says what a run takes, and asks for nothing

`augment.synthesize.n` new dialogues go to data/augmented/synthetic.csv. What falls short of `augment.quality` is
listed with the reason in synthetic.rejected.csv, and counted in synthetic.json.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from stages.augment.answer_rows import Generated
from stages.augment.generate import Method, generate
from stages.augment.quality_gate import Rejected, require_faithful, require_korean, require_length
from stages.core import paths
from stages.core.amount import count_of
from stages.core.errors import UserError, run_stage
from stages.core.params import Quality, Synthesize, load_params
from stages.corpus.dialogue import parse_turns, speakers
from stages.corpus.tables import AUGMENTED_COLUMNS, Row, read_table
from stages.llm.answer_store import Message
from stages.llm.ask import is_dry_run

INSTRUCTION = """\
당신은 한국어 일상 대화를 다루는 숙련된 작가입니다.
주제(topic), 차례 수(turns), 관계와 말투(style)를 JSON으로 드리면, 새 대화(dialogue)와 요약(summary)을 쓰세요.
- 주제가 비어 있으면 일상의 주제를 하나 고릅니다.
- style이 있으면 그 말투와 관계와 매체가 대화에 드러나야 합니다.
- 차례마다 "#Person1#: "처럼 화자 표시로 시작하는 한 줄로 쓰고, 차례 수를 지킵니다.
- 화자는 두 명 이상이고, 말하는 순서대로 #Person1#, #Person2#, #Person3#입니다.
- 실제로 나누는 대화처럼 자연스러운 한국어로 쓰고, 앞서 나온 대화를 베끼지 않습니다.
- 전화번호나 주소 같은 개인 정보는 지어내지 말고 #PhoneNumber#, #Address#처럼 표시로 씁니다.
- 요약은 대화에 있는 내용만으로, 화자를 #Person1#처럼 부르며 '다.'로 끝나는 3인칭 문장으로 씁니다.
- 요약에 나오는 이름과 숫자는 대화에 적힌 그대로 씁니다.
설명 없이 JSON 객체 하나만 답하세요: {"dialogue": "...", "summary": "...", "topic": "..."}"""

SHOWN = ("dialogue", "summary", "topic")
"""What an example shows of a row, and what an answer holds."""

NOTHING = "synthesize: n is 0, nothing to do (set augment.synthesize.n and an API key in .env to write dialogues)"

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class DialogueBrief:
    """What one request asks for: the new row's fname, how it is to be, and the rows shown.

    `lender` is the fname of the training row that lends topic and number of turns.
    """

    fname: str
    lender: str
    topic: str
    turns: int
    style: str
    examples: list[Row]


def draw(rows: Sequence[Row], index: int, settings: Synthesize, seed: int) -> DialogueBrief:
    """Draw by seed the rows that a request shows, and one more that the new row is to be like; styles take turns."""
    *examples, lender = random.Random(f"{seed} {index}").sample(rows, settings.few_shot + 1)
    return DialogueBrief(
        fname=f"synth_{index}",
        lender=lender["fname"],
        topic=lender["topic"],
        turns=len(parse_turns(lender["dialogue"])),
        style=settings.styles[index % len(settings.styles)],
        examples=examples,
    )


def conversation(brief: DialogueBrief) -> list[Message]:
    """The messages that ask for a new dialogue: each example is a question, without a style, with its answer."""
    messages = [{"role": "system", "content": INSTRUCTION}]
    for row in brief.examples:
        question = {"topic": row["topic"], "turns": len(parse_turns(row["dialogue"]))}
        answer = {name: row[name] for name in SHOWN}
        messages += [_message("user", question), _message("assistant", answer)]
    wanted = {"topic": brief.topic, "turns": brief.turns, "style": brief.style}
    return [*messages, _message("user", wanted)]


def sent(brief: DialogueBrief) -> list[tuple[str, str]]:
    """The texts of training rows that a request holds, each with its row's fname."""
    shown = [(row["fname"], row[column]) for row in brief.examples for column in SHOWN]
    return [(brief.lender, brief.topic), *shown]


def _message(role: str, content: dict[str, Any]) -> Message:
    return {"role": role, "content": json.dumps(content, ensure_ascii=False)}


def written(brief: DialogueBrief, new: Generated, quality: Quality) -> Row:
    """Make the row of an answer.

    Raises:
        Rejected: it is not what the brief asks for, or its summary is not true to it.
    """
    require_korean(new.dialogue, new.summary, quality)
    tags = speakers(new.dialogue)
    if len(tags) < 2:
        raise Rejected("one speaker alone")
    if set(tags) != {f"#Person{number}#" for number in range(1, len(tags) + 1)}:
        raise Rejected("speakers are not numbered from 1 on")
    require_length("dialogue", len(parse_turns(new.dialogue)), brief.turns, quality)
    require_faithful(new.dialogue, new.summary)
    return {
        "fname": brief.fname,
        "dialogue": new.dialogue,
        "summary": new.summary,
        "topic": new.topic or brief.topic,
        "source": "synthetic",
    }


SYNTHESIZE = Method[DialogueBrief](
    stage="synthesize",
    table=paths.SYNTHETIC,
    answers=paths.SYNTHESIZE_ANSWERS,
    fields=SHOWN,
    conversation=conversation,
    sent=sent,
    origin=lambda brief: brief.lender,
    row=written,
    others=[paths.PARAPHRASES],
)


def main() -> None:
    dry_run = is_dry_run("synthesize")
    params = load_params()
    wanted = params.augment.synthesize
    train = read_table(paths.TRAIN, "train").reindex(columns=AUGMENTED_COLUMNS, fill_value="")
    n = count_of(wanted.n, len(train))
    if n == 0:
        log.info(NOTHING)
    elif len(train) <= wanted.few_shot:
        raise UserError(
            f"augment.synthesize.few_shot = {wanted.few_shot}: must be below the {len(train)} rows of "
            f"{paths.CHECKED / 'train.csv'}; lower it, or raise data.limit"
        )
    examples = train.to_dict("records")
    briefs = [draw(examples, index, wanted, params.seed) for index in range(n)]
    generate(SYNTHESIZE, briefs, params.augment.llm, params.augment.quality, dry_run)


if __name__ == "__main__":
    run_stage(main)
