"""Rewrite training rows with a language model: dialogue and summary together, their meaning kept.

    python -m stages.paraphrase
    python -m stages.paraphrase --dry-run    # says what a run takes, and asks for nothing

`augment.paraphrase.n` rows of data/checked/train.csv, chosen by seed, become rows of
data/augmented/paraphrase.csv, each named after its origin (`train_7.para`). What falls short of
`augment.quality` is listed with the reason in paraphrase.rejected.csv, and counted in paraphrase.json.
"""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Sequence

from stages.augment.answer_rows import Generated
from stages.augment.generate import Method, generate
from stages.augment.quality_gate import require_faithful, require_kept, require_korean, require_length
from stages.core import paths
from stages.core.amount import count_of
from stages.core.errors import run_stage
from stages.core.params import Quality, load_params
from stages.corpus.tables import AUGMENTED_COLUMNS, Row, read_table
from stages.llm.answer_store import Message
from stages.llm.ask import is_dry_run

INSTRUCTION = """\
당신은 한국어 일상 대화를 다루는 숙련된 작가입니다.
대화(dialogue)와 그 요약(summary)을 JSON으로 드리면, 뜻은 그대로 두고 둘 다 다른 말로 고쳐 쓰세요.
- 등장하는 화자는 그대로이고, #Person1#이 먼저 말합니다.
- 차례마다 "#Person1#: "처럼 화자 표시로 시작하는 한 줄로 씁니다.
- #PhoneNumber#, #Address#처럼 #로 둘러싼 표시는 글자도 개수도 바꾸지 않습니다.
- 이름, 숫자, 날짜, 장소와 누가 무엇을 말하고 했는지는 바꾸지 않습니다.
- 숫자는 원문에 적힌 그대로, 요약과 대화에 같은 꼴로 씁니다.
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


def rewritten(origin: Row, new: Generated, quality: Quality) -> Row:
    """Make the row of an answer.

    Raises:
        Rejected: it does not keep what the origin says.
    """
    require_korean(new.dialogue, new.summary, quality)
    require_kept(new.dialogue, new.summary, origin["dialogue"], origin["summary"])
    require_length("dialogue", len(new.dialogue), len(origin["dialogue"]), quality)
    require_length("summary", len(new.summary), len(origin["summary"]), quality)
    require_faithful(new.dialogue, new.summary)
    return {
        "fname": f"{origin['fname']}.para",
        "dialogue": new.dialogue,
        "summary": new.summary,
        "topic": origin["topic"],
        "source": "paraphrase",
    }


PARAPHRASE = Method[Row](
    stage="paraphrase",
    table=paths.PARAPHRASES,
    answers=paths.PARAPHRASE_ANSWERS,
    fields=["dialogue", "summary"],
    conversation=conversation,
    sent=lambda row: [(row["fname"], row[column]) for column in ("dialogue", "summary")],
    origin=lambda row: row["fname"],
    row=rewritten,
    rewrites=True,
)


def main() -> None:
    dry_run = is_dry_run("paraphrase")
    params = load_params()
    train = read_table(paths.TRAIN, "train").reindex(columns=AUGMENTED_COLUMNS, fill_value="")
    n = count_of(params.augment.paraphrase.n, len(train))
    origins = choose(train.to_dict("records"), n, params.seed)
    if n == 0:
        log.info(NOTHING)
    elif len(origins) < n:
        log.info("paraphrase: n is %d, all %d training rows are taken", n, len(origins))
    generate(PARAPHRASE, origins, params.augment.llm, params.augment.quality, dry_run)


if __name__ == "__main__":
    run_stage(main)
