from __future__ import annotations

from pathlib import Path

import pytest

from stages.decoding.resume_log import ResumeLog, resume_log_for


def test_what_was_appended_is_read_back(tmp_path: Path) -> None:
    log = ResumeLog(tmp_path / "folder/a.jsonl")
    log.append(1, {"text": "둘은\n만납니다."})
    log.append(0, ["x"])
    assert ResumeLog(log.path).values == {1: {"text": "둘은\n만납니다."}, 0: ["x"]}
    log.remove()
    assert ResumeLog(log.path).values == {}


def test_a_line_cut_at_any_byte_is_dropped_and_can_be_written_again(tmp_path: Path) -> None:
    whole = ResumeLog(tmp_path / "whole.jsonl")
    for number in range(2):
        whole.append(number, f"요약 {number}")
    data = whole.path.read_bytes()
    first = data.index(b"\n") + 1
    for length in range(len(data)):
        path = tmp_path / f"{length}.jsonl"
        path.write_bytes(data[:length])
        resumed = ResumeLog(path)
        assert sorted(resumed.values) == list(range((length >= first) + (length == len(data))))
        for number in range(len(resumed.values), 2):
            resumed.append(number, f"요약 {number}")
        assert path.read_bytes() == data


def test_a_log_belongs_to_one_generation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path))
    table = tmp_path / "dev.csv"
    table.write_text("one", encoding="utf-8")
    path = resume_log_for({"seed": 1}, [table], "cpu").path
    assert path.parent == tmp_path / "models/partial"
    assert resume_log_for({"seed": 1}, [table], "cpu").path == path
    others = {resume_log_for({"seed": 2}, [table], "cpu").path, resume_log_for({"seed": 1}, [table], "H100").path}
    table.write_text("two", encoding="utf-8")
    others.add(resume_log_for({"seed": 1}, [table], "cpu").path)
    assert len(others | {path}) == 4
