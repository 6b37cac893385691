from __future__ import annotations

import csv
import io
import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from stages.common.generated import Rejected, Row
from stages.synthesize import Plan, conversation, draw, main, written
from tests.fake_openai import KEY, FakeOpenAI, Messages, Workspace, obedient

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
OUTPUT = "data/augmented/synthetic.csv"
ANSWERS = "data/answers/synthesize.jsonl"
Run = Callable[[int], tuple[str, str, str]]

PLAN = Plan("synth_3", "이사", 4, ROWS[:1])


def reply(turns: int = 4, **changes: Any) -> str:
    dialogue = "\n".join(f"#Person{1 + turn % 2}#: 이사는 언제 하세요?" for turn in range(turns))
    good = {"dialogue": dialogue, "summary": "#Person1#이 #Person2#의 이사를 묻습니다.", "topic": "이사 날짜"}
    return json.dumps(good | changes, ensure_ascii=False)


def test_request_shows_examples_and_asks_about_another_row() -> None:
    plan = draw(ROWS, 0, 3, 42)
    shown = [row["fname"] for row in plan.examples]
    lender = next(row for row in ROWS if row["topic"] == plan.topic)
    assert len(set(shown)) == 3
    assert lender["fname"] not in shown
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
        {"topic": plan.topic, "turns": plan.turns},
    )


def test_draws_depend_on_seed_and_index_alone() -> None:
    assert draw(ROWS, 7, 2, 42) == draw(ROWS, 7, 2, 42)
    assert [draw(ROWS, index, 2, 42) for index in range(9)] != [draw(ROWS, index, 2, 43) for index in range(9)]
    assert len({draw(ROWS, index, 2, 42).topic for index in range(30)}) == len(TOPICS)


@pytest.mark.parametrize(
    ("returned", "topic"),
    [("이사 날짜", "이사 날짜"), ("이사\n 준비 ", "이사 준비"), ("", "이사"), (None, "이사")],
)
def test_answer_becomes_a_row(returned: str | None, topic: str) -> None:
    assert written(PLAN, reply(turns=2, topic=returned)) == {
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
        (reply(turns=9), "too few or too many turns"),
    ],
)
def test_answer_is_rejected(answer: str, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        written(PLAN, answer)
    assert str(rejected.value) == reason


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as running:
        yield running


@pytest.fixture
def workspace(tmp_path: Path, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A folder with five training rows and the key in .env; n is 0."""
    made = Workspace(tmp_path, monkeypatch)
    made.write("data/clean/train.csv", TRAIN)
    made.write(".env", f"UPSTAGE_API_KEY={KEY}\n")
    return made


@pytest.fixture
def run(workspace: Workspace, server: FakeOpenAI, caplog: pytest.LogCaptureFixture) -> Run:
    """Run the stage for n dialogues; returns its last message, its table and its answers."""
    caplog.set_level(logging.INFO, "stages.synthesize")

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
    plans = [draw(ROWS, index, 3, 42) for index in range(3)]
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
    topics = [draw(ROWS, index, 3, 42).topic for index in range(4)]

    def answer(messages: Messages) -> str:
        return "{}" if json.loads(messages[-1]["content"])["topic"] == topics[1] else obedient(messages)

    server.answer = answer
    kept = [index for index, topic in enumerate(topics) if topic != topics[1]]
    message, table, _ = run(4)
    assert message == (
        f"synthesize: {len(kept)} of 4 answers kept; rejected: {4 - len(kept)} no JSON object with dialogue and summary"
    )
    rows = csv.DictReader(io.StringIO(table))
    assert [row["fname"] for row in rows] == [f"synth_{index}" for index in kept]


def test_table_without_topics_lets_the_model_choose(workspace: Workspace, server: FakeOpenAI, run: Run) -> None:
    lines = (f'{row["fname"]},"{row["dialogue"]}",{row["summary"]}\n' for row in ROWS)
    workspace.write("data/clean/train.csv", "fname,dialogue,summary\n" + "".join(lines))
    assert run(1)[0] == "synthesize: 1 of 1 answers kept"
    assert json.loads(server.requests[0]["messages"][-1]["content"])["topic"] == ""


def test_n_0_writes_the_header_only(workspace: Workspace) -> None:
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
            "augment.synthesize.few_shot = 5: must be below the 5 rows of data/clean/train.csv; "
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
