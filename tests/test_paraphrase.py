from __future__ import annotations

import csv
import io
import json
import logging
import time
import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stages.augment.answer_rows import find_object, read_generated
from stages.augment.quality_gate import Rejected
from stages.core.params import Quality
from stages.corpus.tables import Row
from stages.paraphrase import NOTHING, choose, main, rewritten
from tests.fake_openai import KEY, ROOT, FakeOpenAI, Fault, Messages, Workspace, obedient

OUTPUT = "data/augmented/paraphrase.csv"
REJECTED = "data/augmented/paraphrase.rejected.csv"
COUNTS = "data/augmented/paraphrase.json"
ANSWERS = "data/answers/paraphrase.jsonl"

Run = Callable[[int], tuple[str, str, str]]

DIALOGUE = (
    "#Person1#: 안녕하세요, 번호가 #PhoneNumber# 맞으신가요?\n"
    "#Person2#: 네, 맞습니다. 무슨 일이세요? 지금은 통화하기 어려운데요."
)
SUMMARY = "#Person1#이 #Person2#에게 전화번호를 확인합니다."
ORIGIN = {"fname": "train_7", "dialogue": DIALOGUE, "summary": SUMMARY, "topic": "전화 확인"}
QUALITY = Quality(
    min_korean_share=0.5, min_length_ratio=0.5, max_length_ratio=2.0, max_similarity=0.7, max_held_out_similarity=0.3
)
TEXT = st.text(st.characters(exclude_characters="<"))
HEADER = "fname,dialogue,summary,topic,source\n"

TRAIN = "fname,dialogue,summary,topic\n" + "".join(
    f'train_{number},"#Person1#: {food} 드실래요?\n#Person2#: 네, {food} 좋아해요.",'
    f"#Person1#이 #Person2#에게 {food}을 권합니다.,{food}\n"
    for number, food in enumerate(["김밥", "떡볶이", "된장찌개", "비빔밥"])
)
HELD_OUT = (
    "fname,dialogue,summary\n"
    'held_0,"#Person1#: 우산 챙겼어?\n#Person2#: 아차, 두고 왔네.",#Person2#가 우산을 두고 옵니다.\n'
)


def reply(**changes: object) -> str:
    """A good answer for ORIGIN, with some fields changed."""
    good = {"dialogue": DIALOGUE.replace("네,", "예,"), "summary": SUMMARY}
    return json.dumps(good | changes, ensure_ascii=False)


@pytest.mark.parametrize(
    "answer",
    [
        reply(),
        f"```json\n{reply()}\n```",
        f"네, 고쳐 쓴 대화입니다. {{참고}}\n{reply()}\n도움이 되셨기를 {{바랍니다}}.",
        f'<think>형식은 {{"dialogue": "...", "summary": "..."}}</think>{reply()}',
        f'형식은 {{"dialogue": "...", "summary": "..."}}</think>{reply()}',
        f'[THINK]{{"dialogue": "...", "summary": "..."}}[/THINK]{reply()}',
        reply().replace("\\n", "\n"),
        f'{{"result": {reply()}}}',
        reply(dialogue=f" {DIALOGUE.replace('네,', '예,')}  ".replace("\n", " \r\n\n"), summary=f"\n{SUMMARY} "),
    ],
    ids=[
        "plain",
        "fenced",
        "words",
        "thought",
        "thought unopened",
        "thought otherwise",
        "raw newline",
        "nested",
        "untidy",
    ],
)
def test_answer_becomes_a_row(answer: str) -> None:
    assert rewritten(ORIGIN, read_generated(answer), QUALITY) == {
        "fname": "train_7.para",
        "dialogue": DIALOGUE.replace("네,", "예,"),
        "summary": SUMMARY,
        "topic": "전화 확인",
        "source": "paraphrase",
    }


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ("", "no JSON object with dialogue and summary"),
        ("죄송하지만 도와드릴 수 없습니다.", "no JSON object with dialogue and summary"),
        (reply()[:-20], "no JSON object with dialogue and summary"),
        (f"<think>{reply()} 이렇게 쓸까?", "no JSON object with dialogue and summary"),
        ('{"a":' * 3000, "no JSON object with dialogue and summary"),
        (json.dumps({"dialogue": DIALOGUE}), "no JSON object with dialogue and summary"),
        (reply(dialogue=DIALOGUE.split("\n")), "dialogue, summary or topic is not text"),
        (reply(summary=None), "dialogue, summary or topic is not text"),
        (json.dumps({"dialogue": DIALOGUE, "summary": f"{SUMMARY}\ud800"}), "control characters"),
        (reply(dialogue=f"{DIALOGUE}\0"), "control characters"),
        (reply(dialogue=""), "dialogue does not start with #Person1#"),
        (reply(dialogue=f"대화입니다.\n{DIALOGUE}"), "dialogue does not start with #Person1#"),
        (
            reply(dialogue="\n".join(reversed(DIALOGUE.split("\n")))),
            "dialogue does not start with #Person1#",
        ),
        (reply(dialogue=f"{DIALOGUE}\n#Person1#:"), "an empty turn"),
        (reply(dialogue=DIALOGUE.replace("\n", " ")), "two turns in one line"),
        (reply(summary=" \n"), "empty summary"),
        (reply(summary="#Person1# checks the phone number of #Person2#."), "not Korean"),
        (reply(dialogue="#Person1#: Is it #PhoneNumber#?\n#Person2#: Yes, it is. 네."), "not Korean"),
        (reply(summary=f"{SUMMARY} #Person3#도 듣습니다."), "summary names somebody who does not speak"),
        (reply(dialogue=f"{DIALOGUE}\n#Person3#: 저도 있어요."), "other speakers"),
        (reply(dialogue=DIALOGUE.replace("#Person2#", "#Person3#")), "other speakers"),
        (reply(dialogue=DIALOGUE.replace("#PhoneNumber#", "010-1234-5678")), "other masks"),
        (reply(dialogue=DIALOGUE.replace("#PhoneNumber#", "#PhoneNumber# #PhoneNumber#")), "other masks"),
        (reply(summary=f"{SUMMARY} 번호는 #PhoneNumber#입니다."), "other masks"),
        (reply(dialogue=DIALOGUE + " 그런데요" * 20), "dialogue too short or too long"),
        (
            reply(dialogue="#Person1#: #PhoneNumber#?\n#Person2#: 네."),
            "dialogue too short or too long",
        ),
        (reply(summary="#Person1#이 묻습니다."), "summary too short or too long"),
        (reply(summary=f"{SUMMARY} 2번입니다."), "summary has a number that the dialogue has not"),
        (reply(summary=f"LG의 {SUMMARY}"), "summary has a name that the dialogue has not"),
    ],
)
def test_answer_is_rejected(answer: str, reason: str) -> None:
    with pytest.raises(Rejected) as rejected:
        rewritten(ORIGIN, read_generated(answer), QUALITY)
    assert str(rejected.value) == reason


@given(
    st.fixed_dictionaries({"dialogue": TEXT, "summary": TEXT}),
    st.text(st.characters(exclude_characters="{")),
    TEXT,
    st.booleans(),
)
def test_object_is_found_among_any_words(value: dict[str, str], before: str, after: str, ensure_ascii: bool) -> None:
    text = f"{before}{json.dumps(value, ensure_ascii=ensure_ascii)}{after}"
    assert find_object(text, *value) == value


@given(st.text('{}[]":,\\ a1'))
def test_object_is_looked_for_in_any_text(text: str) -> None:
    assert find_object(text, "dialogue") is None


def test_larger_n_keeps_the_rows_chosen_before() -> None:
    rows: list[Row] = [{"fname": f"train_{number}"} for number in range(100)]
    few, many = choose(rows, 10, 42), choose(rows, 20, 42)
    assert [row for row in many if row in few] == few
    assert many == sorted(many, key=rows.index)
    assert choose(rows, 10, 43) != few
    without = [row for row in rows if row != few[0]]
    assert set(map(str, few[1:])) <= set(map(str, choose(without, 10, 42)))


@pytest.fixture
def server() -> Iterator[FakeOpenAI]:
    with FakeOpenAI() as running:
        yield running


@pytest.fixture
def workspace(tmp_path: Path, server: FakeOpenAI, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    """A folder with four training rows and the key in .env; the fake server is to rewrite two rows."""
    made = Workspace(tmp_path, monkeypatch)
    made.set_params({"augment.llm.base_url": server.base_url, "augment.paraphrase.n": 2})
    made.write("data/checked/train.csv", TRAIN)
    for split in ("dev", "test"):
        made.write(f"data/checked/{split}.csv", HELD_OUT)
    made.write(".env", f"UPSTAGE_API_KEY={KEY}\n")
    return made


@pytest.fixture
def run(workspace: Workspace, server: FakeOpenAI, caplog: pytest.LogCaptureFixture) -> Run:
    """Run the stage for n rows; returns its last message, its table and its answers."""
    caplog.set_level(logging.INFO, "stages")

    def go(n: int) -> tuple[str, str, str]:
        workspace.set_params({"augment.llm.base_url": server.base_url, "augment.paraphrase.n": n})
        main()
        return caplog.messages[-1], workspace.read(OUTPUT), workspace.read(ANSWERS)

    return go


def test_rows_are_rewritten_and_answers_replayed_without_key_and_server(
    workspace: Workspace, server: FakeOpenAI, run: Run
) -> None:
    first = run(2)
    assert first[0] == "paraphrase: 2 of 2 answers kept"
    origins = {row["fname"]: row for row in csv.DictReader(io.StringIO(TRAIN))}
    rows = list(csv.DictReader(io.StringIO(first[1])))
    for row in rows:
        origin = origins[row["fname"].removesuffix(".para")]
        food = origin["topic"]
        assert row == {
            "fname": f"{origin['fname']}.para",
            "dialogue": f"#Person1#: 음, {food} 드실래요?\n#Person2#: 음, 네, {food} 좋아해요.",
            "summary": f"그날 {origin['summary']}",
            "topic": food,
            "source": "paraphrase",
        }
    assert len(rows) == len(server.requests) == 2

    server.__exit__()
    (workspace.folder / ".env").unlink()
    (workspace.folder / OUTPUT).unlink()
    assert run(2) == first


def test_outputs_do_not_depend_on_the_order_of_arrival(workspace: Workspace, server: FakeOpenAI, run: Run) -> None:
    def late(food: str) -> Callable[[Messages], str]:
        def answer(messages: Messages) -> str:
            time.sleep(0.3 if food in messages[-1]["content"] else 0)
            return obedient(messages)

        return answer

    server.answer = late("김밥")
    first = run(4)
    (workspace.folder / ANSWERS).unlink()
    server.answer = late("떡볶이")
    assert run(4) == first
    assert len(server.requests) == 8


def test_changed_row_costs_one_request(workspace: Workspace, server: FakeOpenAI, run: Run) -> None:
    run(4)
    workspace.write("data/checked/train.csv", TRAIN.replace("떡볶이 드실래요", "떡볶이 먹을래요"))
    _, table, answers = run(4)
    assert len(server.requests) == len(answers.splitlines()) == 5
    assert "떡볶이 먹을래요" in server.requests[-1]["messages"][-1]["content"]
    assert "떡볶이 먹을래요" in table


def test_rejected_answer_is_counted_and_not_asked_again(
    workspace: Workspace, server: FakeOpenAI, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def answer(messages: Messages) -> str:
        return "모르겠습니다." if "밥" in messages[-1]["content"] else obedient(messages)

    server.answer = answer
    for _ in range(2):
        message, table, _ = run(9)
        assert message == ("paraphrase: 2 of 4 answers kept; rejected: 2 no JSON object with dialogue and summary")
        assert "paraphrase: n is 9, all 4 training rows are taken" in caplog.messages
        rows = csv.DictReader(io.StringIO(table))
        assert [row["fname"] for row in rows] == ["train_1.para", "train_2.para"]
        assert workspace.read(REJECTED) == (
            "method,origin,reason,dialogue,summary\n"
            "paraphrase,train_0,no JSON object with dialogue and summary,모르겠습니다.,\n"
            "paraphrase,train_3,no JSON object with dialogue and summary,모르겠습니다.,\n"
        )
        assert json.loads(workspace.read(COUNTS)) == {
            "rejected": {"no JSON object with dialogue and summary": 2},
            "llm": {"answers": 4, "prompt_tokens": 4, "completion_tokens": 4, "cost": 0.0},
        }
    assert len(server.requests) == 4


def pair(dialogue: str, summary: str) -> str:
    return json.dumps({"dialogue": dialogue, "summary": summary}, ensure_ascii=False)


def test_what_is_not_new_is_rejected_and_kept_with_the_reason(
    workspace: Workspace, server: FakeOpenAI, run: Run
) -> None:
    """One answer repeats its origin, one a test row, one another answer."""
    tidy = "#Person1#: 혹시 저녁으로 뭐가 당기세요?\n#Person2#: 저야 늘 그걸 찾죠."
    dialogues = {
        "김밥": "#Person1#: 김밥, 드실래요?\n#Person2#: 네! 김밥 좋아해요.",
        "떡볶이": "#Person1#: 아, 우산 챙겼어?\n#Person2#: 아차, 두고 왔네!",
        "된장찌개": tidy,
        "비빔밥": tidy.replace("혹시 ", "아 혹시 "),
    }

    def answer(messages: Messages) -> str:
        origin = json.loads(messages[-1]["content"])
        dialogue = next(dialogue for food, dialogue in dialogues.items() if food in origin["dialogue"])
        return pair(dialogue, origin["summary"])

    server.answer = answer
    message, table, _ = run(4)
    assert message == (
        "paraphrase: 1 of 4 answers kept; "
        "rejected: 1 close to a dev or test row, 1 close to another row, 1 hardly rewritten"
    )
    assert [row["fname"] for row in csv.DictReader(io.StringIO(table))] == ["train_2.para"]
    assert [tuple(row.values())[:4] for row in csv.DictReader(io.StringIO(workspace.read(REJECTED)))] == [
        ("paraphrase", "train_0", "hardly rewritten", dialogues["김밥"]),
        ("paraphrase", "train_1", "close to a dev or test row", dialogues["떡볶이"]),
        ("paraphrase", "train_3", "close to another row", dialogues["비빔밥"]),
    ]


def test_row_that_the_server_refuses_is_rejected_in_its_words(
    workspace: Workspace, server: FakeOpenAI, run: Run
) -> None:
    filtered = Fault(400, (ROOT / "tests/data/llm_errors/400_content_filter.json").read_text(encoding="utf-8"))
    long = Fault(400, '{"object": "error", "message": "This model\'s maximum context length is 9 tokens", "code": 400}')
    refused = {"김밥": filtered, "된장찌개": long}

    def answer(messages: Messages) -> str | Fault:
        fault = (fault for food, fault in refused.items() if food in messages[-1]["content"])
        return next(fault, None) or obedient(messages)

    server.answer = answer
    told = "paraphrase: 2 of 4 answers kept; rejected: 1 refused as too long, 1 refused by a content filter"
    first = run(4)
    assert first[0] == told
    assert workspace.read(REJECTED) == (
        "method,origin,reason,dialogue,summary\n"
        "paraphrase,train_0,refused by a content filter,"
        "The response was filtered due to the prompt triggering the content management policy.,\n"
        "paraphrase,train_2,refused as too long,This model's maximum context length is 9 tokens,\n"
    )
    (workspace.folder / ".env").unlink()
    assert run(4) == first
    assert len(server.requests) == 4


def test_refusal_of_the_model_is_rejected_in_its_words(workspace: Workspace, server: FakeOpenAI, run: Run) -> None:
    message = {"content": None, "refusal": "못 합니다."}
    server.faults.append(Fault(200, json.dumps({"choices": [{"message": message, "finish_reason": "stop"}]})))
    server.delay = lambda number: 0.2 if number == 1 else 0.0
    assert run(2)[0] == "paraphrase: 1 of 2 answers kept; rejected: 1 refused by the model"
    assert "refused by the model,못 합니다.," in workspace.read(REJECTED)
    assert run(2)[0] == "paraphrase: 1 of 2 answers kept; rejected: 1 refused by the model"
    assert len(server.requests) == 2


@pytest.mark.parametrize("escaped", [False, True])
def test_decomposed_answers_are_composed_and_counted_those_of_earlier_runs_too(
    workspace: Workspace, server: FakeOpenAI, run: Run, caplog: pytest.LogCaptureFixture, escaped: bool
) -> None:
    composed = run(2)
    (workspace.folder / ANSWERS).unlink()

    def answer(messages: Messages) -> str:
        value = json.loads(obedient(messages))
        return json.dumps({name: unicodedata.normalize("NFD", value[name]) for name in value}, ensure_ascii=escaped)

    server.answer = answer
    for _ in range(2):
        caplog.clear()
        message, table, answers = run(2)
        assert (message, table) == composed[:2]
        assert answers != composed[2]  # the file keeps what the model wrote
        assert "paraphrase: 2 answers with decomposed characters, read as composed ones (NFC)" in caplog.messages
    assert len(server.requests) == 4


PHONE = "010-1234-5678"


def test_unmasked_personal_data_stops_before_anything_is_sent(workspace: Workspace, server: FakeOpenAI) -> None:
    workspace.write("data/checked/train.csv", TRAIN.replace("네, ", f"네, {PHONE}이고 a@b.kr인데 "))
    workspace.set_params({"augment.llm.base_url": server.base_url, "augment.paraphrase.n": 4})
    process = workspace.run("paraphrase")
    assert process.returncode == 1
    assert process.stderr == (
        f"error: data/checked/train.csv: unmasked personal data would be sent to {server.base_url}: "
        "train_0 (Email, PhoneNumber), train_1 (Email, PhoneNumber), train_2 (Email, PhoneNumber), "
        "train_3 (Email, PhoneNumber); set check.personal_data: mask, or augment.llm.allow_personal_data: true\n"
    )
    assert server.requests == []
    assert not (workspace.folder / OUTPUT).exists()
    assert not (workspace.folder / ANSWERS).exists()


def test_personal_data_is_sent_where_the_user_allows_it(workspace: Workspace, server: FakeOpenAI) -> None:
    workspace.write("data/checked/train.csv", TRAIN.replace("네, ", f"네, {PHONE}이에요. "))
    workspace.set_params(
        {
            "augment.llm.base_url": server.base_url,
            "augment.llm.allow_personal_data": True,
            "augment.paraphrase.n": 1,
        }
    )
    main()
    assert PHONE in server.requests[0]["messages"][-1]["content"]


def test_dry_run_asks_for_nothing_and_writes_nothing(workspace: Workspace, server: FakeOpenAI) -> None:
    process = workspace.run("paraphrase", "--dry-run")
    assert (process.returncode, process.stderr) == (0, "")
    assert process.stdout.startswith("paraphrase: 2 requests, 0 answered already, 2 to be asked for: about ")
    assert server.requests == []
    assert not (workspace.folder / OUTPUT).exists()


def test_n_0_keeps_the_answers(run: Run) -> None:
    _, _, answers = run(2)
    assert run(0) == (NOTHING, HEADER, answers)


def test_n_0_writes_the_header_only(workspace: Workspace) -> None:
    workspace.set_params({"augment.paraphrase.n": 0})
    process = workspace.run("paraphrase")
    assert (process.returncode, process.stdout) == (0, "")
    assert process.stderr == (
        "paraphrase: n is 0, nothing to do (set augment.paraphrase.n and an API key in .env to rewrite rows)\n"
    )
    assert (workspace.read(OUTPUT), workspace.read(ANSWERS)) == (HEADER, "")


def test_missing_key_stops_before_anything_is_written(workspace: Workspace) -> None:
    workspace.write(".env", "UPSTAGE_API_KEY=\n")
    process = workspace.run("paraphrase")
    assert process.returncode == 1
    assert process.stderr == (
        "error: UPSTAGE_API_KEY is not set and 2 answers are to be asked for; "
        "put it in .env (see .env.example), or set augment.paraphrase.n: 0\n"
    )
    assert not (workspace.folder / "data/augmented").exists()
    assert not (workspace.folder / "data/answers").exists()


def test_unknown_model_is_one_line(workspace: Workspace, server: FakeOpenAI) -> None:
    server.model = "solar-pro9"
    process = workspace.run("paraphrase")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        f"error: augment.llm.model = 'solar-pro2': not found at {server.base_url} (404); check both; "
        "the server says: The model solar-pro2 does not exist"
    )
    assert "Traceback" not in process.stderr
    assert not (workspace.folder / OUTPUT).exists()


def test_refused_key_is_one_line_that_does_not_quote_it(workspace: Workspace, server: FakeOpenAI) -> None:
    process = workspace.run("paraphrase", UPSTAGE_API_KEY="up_wrong")
    assert process.returncode == 1
    assert process.stderr.splitlines()[-1] == (
        f"error: augment.llm.base_url = {server.base_url!r}: the key in UPSTAGE_API_KEY is refused (401); check .env; "
        "the server says: Incorrect API key provided: Bearer ***"
    )
    assert "Traceback" not in process.stderr
    assert "up_wrong" not in process.stdout + process.stderr


def test_key_of_the_parent_repository_is_used_and_written_nowhere(
    workspace: Workspace, tmp_path_factory: pytest.TempPathFactory
) -> None:
    parent = tmp_path_factory.mktemp("parent")
    (workspace.folder / ".env").rename(parent / ".env")
    process = workspace.run("paraphrase", DVC_ROOT=str(parent))
    assert process.stderr.splitlines()[-1] == "paraphrase: 2 of 2 answers kept"
    written = [path for path in workspace.folder.rglob("*") if path.is_file()]
    assert workspace.folder / ANSWERS in written
    assert KEY not in process.stdout + process.stderr
    assert not [path for path in written if KEY.encode() in path.read_bytes()]
