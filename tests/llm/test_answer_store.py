from __future__ import annotations

import json
import multiprocessing
import tracemalloc
from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.llm.answer_store import Answer, Answers, Request, tell_apart
from stages.llm.budget import Usage


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "data/answers/test.jsonl"


def answer(text: str, prompt_tokens: int = 1, completion_tokens: int = 2) -> Answer:
    return Answer("m", text, "stop", prompt_tokens, completion_tokens)


@pytest.mark.parametrize(
    "line",
    [
        "<<<<<<< HEAD",
        '{"key": "a"}',
        "[]",
        '{"key": "a", "model": "b", "answer": 1}',
        '{"key": "a", "model": "b", "answer": "c", "finish_reason": "stop"}',
    ],
)
def test_line_that_is_no_record_is_named(path: Path, line: str) -> None:
    path.parent.mkdir(parents=True)
    path.write_text('{"key": "a", "model": "b", "answer": "c"}\n' + line + "\n", encoding="utf-8")
    with pytest.raises(UserError) as error:
        Answers(path)
    assert str(error.value) == f"{path}, line 2: not an answer record; remove the line, or restore the file from Git"


def test_record_without_tokens_is_read(path: Path) -> None:
    path.parent.mkdir(parents=True)
    path.write_text('{"key": "a", "model": "b", "answer": "c"}\n', encoding="utf-8")
    assert Answers(path)["a"] == Answer("b", "c", "stop", 0, 0)


def test_record_is_readable(path: Path) -> None:
    Answers(path).add("a", Answer("m", "답", "length", 3, 4))
    assert path.read_text(encoding="utf-8") == (
        '{"key": "a", "model": "m", "answer": "답", "finish_reason": "length", '
        '"prompt_tokens": 3, "completion_tokens": 4}\n'
    )


def test_saved_file_is_the_same_in_whatever_order_answers_came(tmp_path: Path) -> None:
    requests = [Request("m", [{"role": "user", "content": word}], 0.7, 9) for word in "가나다라"]
    files = []
    for name, order in (("one", requests), ("two", requests[::-1])):
        answers = Answers(tmp_path / name)
        for request in order:
            answers.add(request.key, answer("줄\n둘\u2028셋 " + request.messages[0]["content"]))
        answers.save()
        files.append((tmp_path / name).read_bytes())
    assert files[0] == files[1]
    assert [json.loads(line)["key"] for line in files[0].splitlines()] == sorted(r.key for r in requests)
    assert Answers(tmp_path / "one")[requests[2].key].text == "줄\n둘\u2028셋 다"


def test_saving_nothing_leaves_an_empty_file(path: Path) -> None:
    Answers(path).save()
    assert path.read_bytes() == b""


def test_loading_what_is_not_there_makes_nothing(path: Path) -> None:
    assert "a" not in Answers(path)
    assert not path.parent.exists()


def test_two_writers_keep_each_others_answers(path: Path) -> None:
    one, two = Answers(path), Answers(path)
    one.add("c", answer("하나"))
    two.add("a", answer("둘"))
    one.add("b", answer("셋"))
    two.save()
    one.add("d", answer("넷"))  # after the other has replaced the file
    two.save()
    one.save()
    kept = Answers(path)
    assert {key: kept[key].text for key in "abcd"} == {"a": "둘", "b": "셋", "c": "하나", "d": "넷"}
    assert len(path.read_bytes().splitlines()) == 4


def test_two_writers_of_one_answer_agree_on_the_first(path: Path) -> None:
    one, two = Answers(path), Answers(path)
    one.add("a", answer("먼저"))
    two.add("a", answer("나중"))
    assert two["a"].text == "먼저"
    assert len(path.read_bytes().splitlines()) == 1


def test_writer_cuts_off_what_a_killed_one_tore(path: Path) -> None:
    one = Answers(path)
    one.add("a", answer("하나"))
    with path.open("ab") as file:
        file.write(b'{"key": "b", "mod')
    one.add("c", answer("셋"))
    assert [json.loads(line)["key"] for line in path.read_bytes().splitlines()] == ["a", "c"]


def add_many(path: Path, name: str) -> None:
    answers = Answers(path)
    for number in range(200):
        answers.add(f"{name} {number:03}", answer("답" * 500))
    answers.save()


def test_processes_that_write_at_once_lose_nothing(path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=add_many, args=(path, name)) for name in "가나다"]
    for process in processes:
        process.start()
    for process in processes:
        process.join()
    keys = [json.loads(line)["key"] for line in path.read_bytes().splitlines()]
    assert keys == [f"{name} {number:03}" for name in "가나다" for number in range(200)]


def test_usage_counts_what_is_in_use_whenever_it_was_asked_for(path: Path) -> None:
    answers = Answers(path)
    answers.use([("a", 0), ("b", 0), ("later", 0)])
    answers.add("a", answer("하나", 10, 1))
    answers.add("old", answer("둘", 1000, 1000))
    answers.add("b", answer("셋", 20, 2))
    assert answers.usage() == Usage(2, 30, 3)
    again = Answers(path)
    again.use([("a", 0), ("b", 0)])
    assert again.usage() == Usage(2, 30, 3)


def test_answers_in_use_come_in_the_order_of_their_requests(path: Path) -> None:
    answers = Answers(path)
    answers.add("a", answer("하나"))
    answers.add("b", answer("둘"))
    answers.use([("b", 0), ("later", 2), ("a", 0)])
    assert list(answers.missing()) == [(1, "later", 2)]
    assert list(answers.used()) == [answer("둘"), None, answer("하나")]
    answers.use([("a", 0)])
    assert list(answers.used()) == [answer("하나")]


def test_request_that_occurs_again_asks_for_another_sample() -> None:
    one, two = (Request("m", [{"role": "user", "content": word}], 0.7, 9) for word in "가나")
    found = list(tell_apart([one, two, one, one]))
    assert [request.sample for _, request in found] == [0, 0, 1, 2]
    assert [key for key, _ in found] == [request.key for _, request in found]
    assert len({key for key, _ in found}) == 4


def test_answers_are_not_held_in_memory(path: Path) -> None:
    count, text = 2000, "답" * 500
    tracemalloc.start()
    try:
        answers = Answers(path)
        answers.use((f"{number:04}", 0) for number in range(count))
        for number in range(count):
            answers.add(f"{number:04}", answer(text + str(number)))
        assert sum(found is not None for found in answers.used()) == count
        answers.save()
        assert Answers(path).usage() == Usage()
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < path.stat().st_size / 4
