from __future__ import annotations

import csv
import io
import json
import logging
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.augment.answer_rows import read_generated
from stages.augment.quality_gate import Rejected
from stages.core.params import Quality, Synthesize, load_params
from stages.corpus.tables import Row
from stages.synthesize import DialogueBrief, conversation, draw, main, written
from tests.fake_openai import KEY, FakeOpenAI, Messages, Workspace

TOPICS = ["김밥", "등산", "은행", "이사", "병원"]
ROWS: list[Row] = [
    {
        "fname": f"train_{number}",
        "dialogue": "\n".join(f"#Person{1 + turn % 2}#: {topic} 말이에요." for turn in range(4 + number)),
        "summary": f"#Person1#과 #Person2#가 {topic} 이야기를 합니다.",
        "topic": topic,
    }
    for number, topic in enumerate(TOPICS)
]
TRAIN = "fname,dialogue,summary,topic\n" + "".join(
    f'{row["fname"]},"{row["dialogue"]}",{row["summary"]},{row["topic"]}\n' for row in ROWS
)
UMBRELLA = "#Person1#: 우산 챙겼어?\n#Person2#: 아차.\n#Person1#: 비 온다는데.\n#Person2#: 하나 사지, 뭐."
THROAT = "#Person1#: 어디 아프세요?\n#Person2#: 목이 부었어요.\n#Person1#: 열은요?\n#Person2#: 조금 있어요."
HELD_OUT = f'fname,dialogue,summary\nheld_0,"{UMBRELLA}",우산 이야기입니다.\n'
PARAPHRASES = f'fname,dialogue,summary,topic,source\ntrain_0.para,"{THROAT}",#Person2#가 아픕니다.,병원,paraphrase\n'
OUTPUT = "data/augmented/synthetic.csv"
REJECTED = "data/augmented/synthetic.rejected.csv"
COUNTS = "data/augmented/synthetic.json"
ANSWERS = "data/answers/synthesize.jsonl"
Run = Callable[[int], tuple[str, str, str]]

STYLES = ["친구끼리, 반말", "전화, 존댓말"]
WANTED = Synthesize(n=0, few_shot=3, styles=STYLES)
QUALITY = Quality(
    min_korean_share=0.5, min_length_ratio=0.5, max_length_ratio=2.0, max_similarity=0.7, max_held_out_similarity=0.3
)
PLAN = DialogueBrief("synth_3", "train_3", "이사", 4, STYLES[0], ROWS[:1])


def reply(turns: int = 4, **changes: Any) -> str:
    dialogue = "\n".join(f"#Person{1 + turn % 2}#: 이사는 언제 하세요?" for turn in range(turns))
    good = {"dialogue": dialogue, "summary": "#Person1#이 #Person2#의 이사를 묻습니다.", "topic": "이사 날짜"}
    return json.dumps(good | changes, ensure_ascii=False)


def inventive(messages: Messages) -> str:
    """Write a dialogue that is like no other, as long as asked for."""
    question = json.loads(messages[-1]["content"])
    rng = random.Random(messages[-1]["content"] + messages[1]["content"])
    turns = (" ".join("".join(rng.choices("가나다라마바사아자차카타파하", k=4)) for _ in range(3)) for _ in range(99))
    lines = [f"#Person{1 + turn % 2}#: {next(turns)}" for turn in range(question["turns"])]
    return json.dumps({"dialogue": "\n".join(lines), "summary": "#Person1#과 #Person2#가 이야기합니다.", "topic": ""})


def test_request_shows_examples_and_asks_about_another_row() -> None:
    plan = draw(ROWS, 0, WANTED, 42)
    shown = [row["fname"] for row in plan.examples]
    lender = next(row for row in ROWS if row["topic"] == plan.topic)
    assert len(set(shown)) == 3
    assert plan.lender == lender["fname"]
    assert plan.lender not in shown
    assert plan.turns == lender["dialogue"].count("\n") + 1

    system, *examples, question = conversation(plan)
    assert system["role"] == "system"
    assert [message["role"] for message in examples] == ["user", "assistant"] * 3
    for row, asked, answered in zip(plan.examples, examples[::2], examples[1::2], strict=True):
        assert json.loads(asked["content"]) == {
            "topic": row["topic"],
            "turns": row["dialogue"].count("\n") + 1,
        }
        assert json.loads(answered["content"]) == {name: row[name] for name in ("dialogue", "summary", "topic")}
    assert (question["role"], json.loads(question["content"])) == (
        "user",
        {"topic": plan.topic, "turns": plan.turns, "style": STYLES[0]},
    )


def test_draws_depend_on_seed_and_index_alone() -> None:
    assert draw(ROWS, 7, WANTED, 42) == draw(ROWS, 7, WANTED, 42)
    plans = [draw(ROWS, index, WANTED, 42) for index in range(30)]
    assert plans != [draw(ROWS, index, WANTED, 43) for index in range(30)]
    assert {plan.topic for plan in plans} == set(TOPICS)
    assert [plan.style for plan in plans] == STYLES * 15


@pytest.mark.parametrize(
    ("returned", "topic"),
    [("이사 날짜", "이사 날짜"), ("이사\n 준비 ", "이사 준비"), ("", "이사"), (None, "이사")],
)
def test_answer_becomes_a_row(returned: str | None, topic: str) -> None:
    assert written(PLAN, read_generated(reply(turns=2, topic=returned)), QUALITY) == {
        "fname": "synth_3",
        "dialogue": "#Person1#: 이사는 언제 하세요?\n#Person2#: 이사는 언제 하세요?",
        "summary": "#Person1#이 #Person2#의 이사를 묻습니다.",
        "topic": topic,
        "source": "synthetic",
    }


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("[]", "no JSON object with dialogue and summary"),
        (reply(topic=3), "dialogue, summary or topic is not text"),
        (reply(summary="They talk about moving."), "not Korean"),
        (reply(summary="#Person1#이 #Person4#에게 묻습니다."), "summary names somebody who does not speak"),
        (
            reply(dialogue="#Person1#: 이사 언제 하지?\n#Person1#: 글쎄.", summary="#Person1#이 고민합니다."),
            "one speaker alone",
        ),
        (
            reply(dialogue="#Person1#: 이사 언제 하지?\n#Person3#: 글쎄.", summary="#Person1#이 고민합니다."),
            "speakers are not numbered from 1 on",
        ),
        (reply(turns=1, dialogue="#Person1#: 이사 가?"), "one speaker alone"),
        (reply(turns=9), "dialogue too short or too long"),
        (reply(summary="#Person1#이 3월 이사를 묻습니다."), "summary has a number that the dialogue has not"),
        (reply(summary="#Person1#이 #Address#를 묻습니다."), "summary has a mask that the dialogue has not"),
    ],
)
def test_answer_is_rejected(answer: str, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        written(PLAN, read_generated(answer), QUALITY)
    assert str(rejected.value) == reason


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI(inventive) as running:
        yield running


@pytest.fixture
def workspace(tmp_path: Path, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A folder with five training rows and the key in .env; n is 0."""
    made = Workspace(tmp_path, monkeypatch)
    made.write("data/checked/train.csv", TRAIN)
    for split in ("dev", "test"):
        made.write(f"data/checked/{split}.csv", HELD_OUT)
    made.write("data/augmented/paraphrase.csv", PARAPHRASES)
    made.write(".env", f"UPSTAGE_API_KEY={KEY}\n")
    return made


def stage_settings() -> Synthesize:
    return load_params().augment.synthesize


@pytest.fixture
def run(workspace: Workspace, server: FakeOpenAI, caplog: pytest.LogCaptureFixture) -> Run:
    """Run the stage for n dialogues; returns its last message, its table and its answers."""
    caplog.set_level(logging.INFO, "stages")

    def go(n: int) -> tuple[str, str, str]:
        workspace.set_params({"augment.llm.base_url": server.base_url, "augment.synthesize.n": n})
        main()
        return caplog.messages[-1], workspace.read(OUTPUT), workspace.read(ANSWERS)

    return go


def test_dialogues_are_written_and_answers_replayed_without_key_and_server(
    workspace: Workspace, server: FakeOpenAI, run: Run
) -> None:
    server.delay = lambda number: 0.3 / number
    first = run(3)
    assert first[0] == "synthesize: 3 of 3 answers kept"
    plans = [draw(ROWS, index, stage_settings(), 42) for index in range(3)]
    assert [
        (row["fname"], row["topic"], row["dialogue"].count("\n") + 1, row["source"])
        for row in csv.DictReader(io.StringIO(first[1]))
    ] == [(plan.fname, plan.topic, plan.turns, "synthetic") for plan in plans]

    server.__exit__()
    (workspace.folder / ".env").unlink()
    assert run(3) == first


def test_larger_n_pays_for_the_new_ones_only(server: FakeOpenAI, run: Run) -> None:
    _, before, _ = run(2)
    _, after, _ = run(5)
    assert after.startswith(before)
    assert len(server.requests) == 5


def test_rejected_answer_leaves_a_gap(server: FakeOpenAI, run: Run) -> None:
    topics = [draw(ROWS, index, stage_settings(), 42).topic for index in range(4)]

    def answer(messages: Messages) -> str:
        return "{}" if json.loads(messages[-1]["content"])["topic"] == topics[1] else inventive(messages)

    server.answer = answer
    kept = [index for index, topic in enumerate(topics) if topic != topics[1]]
    message, table, _ = run(4)
    assert message == (
        f"synthesize: {len(kept)} of 4 answers kept; rejected: {4 - len(kept)} no JSON object with dialogue and summary"
    )
    rows = csv.DictReader(io.StringIO(table))
    assert [row["fname"] for row in rows] == [f"synth_{index}" for index in kept]


def test_what_is_not_new_is_rejected_and_kept_with_the_reason(
    workspace: Workspace, server: FakeOpenAI, run: Run
) -> None:
    """The answers repeat a dev row, a paraphrase and a training row; the last one is new."""
    workspace.set_params({})
    plans = [draw(ROWS, index, stage_settings(), 42) for index in range(4)]
    copies = {
        plans[0].style: UMBRELLA,
        plans[1].style: THROAT.replace("조금", "네, 조금"),
        plans[2].style: ROWS[4]["dialogue"],
    }

    def answer(messages: Messages) -> str:
        question = json.loads(messages[-1]["content"])
        new: dict[str, str] = json.loads(inventive(messages))
        dialogue = copies.get(question["style"], new["dialogue"])
        return json.dumps(new | {"dialogue": dialogue})

    server.answer = answer
    _, table, _ = run(4)
    assert [row["fname"] for row in csv.DictReader(io.StringIO(table))] == ["synth_3"]
    rejected = {"close to a dev or test row": 1, "close to another row": 2}
    assert json.loads(workspace.read(COUNTS))["rejected"] == rejected
    assert [tuple(row.values())[:4] for row in csv.DictReader(io.StringIO(workspace.read(REJECTED)))] == [
        ("synthetic", plan.lender, reason, copies[plan.style])
        for plan, reason in zip(plans, ["close to a dev or test row", *["close to another row"] * 2], strict=False)
    ]


@pytest.mark.parametrize("column", ["dialogue", "topic"])
def test_unmasked_personal_data_stops_before_anything_is_sent(
    workspace: Workspace, server: FakeOpenAI, column: str
) -> None:
    workspace.set_params({"augment.llm.base_url": server.base_url, "augment.synthesize.n": 1})
    plan = draw(ROWS, 0, stage_settings(), 42)
    fname = plan.lender if column == "topic" else plan.examples[0]["fname"]
    rows = [row | {column: f"{row[column]} 010-1234-5678"} if row["fname"] == fname else row for row in ROWS]
    lines = (f'{row["fname"]},"{row["dialogue"]}",{row["summary"]},{row["topic"]}\n' for row in rows)
    workspace.write("data/checked/train.csv", "fname,dialogue,summary,topic\n" + "".join(lines))
    process = workspace.run("synthesize")
    assert (process.returncode, process.stderr) == (
        1,
        f"error: data/checked/train.csv: unmasked personal data would be sent to {server.base_url}: "
        f"{fname} (PhoneNumber); set check.personal_data: mask, or augment.llm.allow_personal_data: true\n",
    )
    assert server.requests == []


def test_table_without_topics_lets_the_model_choose(workspace: Workspace, server: FakeOpenAI, run: Run) -> None:
    lines = (f'{row["fname"]},"{row["dialogue"]}",{row["summary"]}\n' for row in ROWS)
    workspace.write("data/checked/train.csv", "fname,dialogue,summary\n" + "".join(lines))
    assert run(1)[0] == "synthesize: 1 of 1 answers kept"
    assert json.loads(server.requests[0]["messages"][-1]["content"])["topic"] == ""


def test_n_0_writes_the_header_only(workspace: Workspace) -> None:
    workspace.set_params({"augment.synthesize.n": 0})
    process = workspace.run("synthesize")
    assert (process.returncode, process.stdout) == (0, "")
    assert process.stderr == (
        "synthesize: n is 0, nothing to do (set augment.synthesize.n and an API key in .env to write dialogues)\n"
    )
    assert workspace.read(OUTPUT) == "fname,dialogue,summary,topic,source\n"
    assert workspace.read(ANSWERS) == ""


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"augment.synthesize.few_shot": 5},
            "augment.synthesize.few_shot = 5: must be below the 5 rows of data/checked/train.csv; "
            "lower it, or raise data.limit",
        ),
        (
            {"augment.llm.api_key_env": "OTHER_KEY"},
            "OTHER_KEY is not set and 1 answers are to be asked for; "
            "put it in .env (see .env.example), or set augment.synthesize.n: 0",
        ),
    ],
    ids=["few_shot", "key"],
)
def test_mistake_is_one_line(workspace: Workspace, changes: dict[str, Any], message: str) -> None:
    workspace.set_params({"augment.synthesize.n": 1, **changes})
    process = workspace.run("synthesize")
    assert (process.returncode, process.stderr) == (1, f"error: {message}\n")
    assert not (workspace.folder / OUTPUT).exists()
