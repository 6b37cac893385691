from __future__ import annotations

import doctest
from pathlib import Path
from typing import Any

from stages.finishing import record
from stages.finishing.record import as_text, hashes, headline

NOTHING = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_examples() -> None:
    assert doctest.testmod(record) == (0, 1)


def test_files_that_are_not_there_have_no_hash(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").touch()
    assert hashes([tmp_path / "empty.csv", tmp_path / "none.csv"]) == {(tmp_path / "empty.csv").as_posix(): NOTHING}


def test_the_headline_has_intervals_repeats_and_length_of_what_is_scored() -> None:
    def of(final: float) -> dict[str, float]:
        return {"rouge1": 1.0, "final": final, "final_low": final - 1, "final_high": final + 1}

    dev = {"word": of(10), "morpheme": of(30), "clipped": of(20), "word_clipped": of(5)}
    scores = {"dev": {**dev, "checks": {"repeats": 25.0}, "length_ratio": 1.25}}
    assert headline(scores) == {
        "dev": {
            "final": {"word": [10, 9, 11], "morpheme": [30, 29, 31], "clipped": [20, 19, 21]},
            "repeats": 25.0,
            "length_ratio": 1.25,
        }
    }
    assert headline({}) == {}
    refitted = headline(scores | {"refitted": {"dev": "models/adapter", "test": "models/refit"}})
    assert refitted["dev"].pop("adapter") == "models/adapter"
    assert refitted == headline(scores)


def test_the_record_can_be_read() -> None:
    made: dict[str, Any] = {
        "commit": "0a1b2c3d",
        "changed": ["params.yaml"],
        "params_changed": {"lora.r": [16, 32], "data.extra": [[], [{"path": "a.csv"}]]},
        "params": {},
        "base": {"name": "tiny", "sha256": "ff00"},
        "adapters": {"models/adapter": "aa11"},
        "submission": {"rows": 12, "sha256": "bb22"},
        "scores": {"dev": {"final": {"morpheme": [30.123, 28.5, 32]}, "repeats": 25.0, "length_ratio": 1.25}},
        "data": {"data/raw/train.csv": "cc33"},
    }
    assert as_text("0a1b2c3-deadbeef", made) == (
        "# Submission 0a1b2c3-deadbeef\n\n"
        "|  |  |\n| --- | --- |\n"
        "| commit | 0a1b2c3d |\n"
        "| changed since | params.yaml |\n"
        "| base model | tiny ff00 |\n"
        "| adapter models/adapter | aa11 |\n"
        "| submission.csv | 12 rows, bb22 |\n"
        "\n## Scores\n\n"
        "|  | dev |\n| --- | --- |\n"
        "| morpheme | 30.12 [28.50, 32.00] |\n"
        "| repeats | 25% |\n"
        "| length, for one of the references | x 1.25 |\n"
        "\n## Parameters that are not the commit's\n\n"
        "|  |  |\n| --- | --- |\n"
        "| lora.r | 16 → 32 |\n"
        '| data.extra | [] → [{"path": "a.csv"}] |\n'
        "\n## Files that it was made from, by SHA-256\n\n"
        "|  |  |\n| --- | --- |\n"
        "| data/raw/train.csv | cc33 |\n"
    )
    after_refit = {"dev": {"adapter": "models/adapter", **made["scores"]["dev"]}}
    assert "| summarised by | models/adapter |\n" in as_text("x", {**made, "scores": after_refit})
    bare = as_text("x", {**made, "changed": [], "params_changed": {}, "scores": {}})
    assert "| changed since | nothing |" in bare
    assert "None: neither dev nor test has references." in bare
    assert "None. params.yaml beside this file has all." in bare
