"""The benchmark of what comes after fine-tuning: its gate, what it runs, and what it need not run again."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.after_training import ALONE, gate, ladder, missing_seeds, read_setting
from benchmarks.pipeline_runs import table
from stages.core.errors import UserError
from stages.core.params import flat, load_params
from tests.tiny_project import ROOT


def candidates(search: float, best: float) -> dict[str, Any]:
    return {
        "dev": {
            "search": {"morpheme": search + 1, "clipped": search - 1},
            "best_sample": {"morpheme": best, "clipped": best},
        }
    }


def test_the_gate_says_whether_there_is_enough_to_gain() -> None:
    assert gate(candidates(31, 40), 16, 4.0) == (9.0, "dev: four beams 31.00, best of 16 samples 40.00, +9.00: goes on")
    room, words = gate(candidates(31, 34), 16, 4.0)
    assert room == 3.0
    assert words.endswith("+3.00: under 4: there is too little to gain, stop here")


def test_each_step_is_of_stages_and_parameters_that_there_are() -> None:
    steps = ladder(16, 1.0)
    assert list(steps) == [
        *("fine-tuning", "+ mbr", "+ learned"),
        *("+ ranking", "+ ranking + mbr", "+ dpo", "+ dpo + mbr"),
    ]
    known = dict(flat(load_params(ROOT / "params.yaml").model_dump()))
    assert {key for step in steps.values() for key in [*step.settings, *ALONE]} <= known.keys()
    assert all(
        (ROOT / f"stages/{name}.py").is_file() for step in steps.values() for name in [*step.stages, *step.needs]
    )


def test_a_seed_that_ended_at_the_gate_is_not_run_again() -> None:
    steps = ["fine-tuning", "+ mbr"]
    known: list[dict[str, Any]] = [
        *({"name": "gate", "seed": seed, "room": room} for seed, room in ((1, 9.0), (2, 1.0), (3, 9.0))),
        *({"name": name, "seed": 1} for name in steps),
        *({"name": "fine-tuning", "seed": seed} for seed in (2, 3)),
    ]
    assert missing_seeds([1, 2, 3, 4], known, steps, 4.0) == [3, 4]


def test_parameters_are_set_as_dvc_sets_them() -> None:
    assert [read_setting(text) for text in ("align.beta=0.05", "model.name=tiny", "reward.invented=0")] == [
        ("align.beta", 0.05),
        ("model.name", "tiny"),
        ("reward.invented", 0),
    ]
    with pytest.raises(UserError, match=r"--set align.beta: write a key and a value"):
        read_setting("align.beta")


def test_the_table_has_what_games_the_metric_beside_each_gain() -> None:
    def result(name: str, score: float, invented: float) -> dict[str, Any]:
        test = {"objective": [score, score], "repeats": 5.0, "invented": invented, "length": 1.1}
        return {"name": name, "seed": 1, "seconds": {"infer": 2.0, "train": 8.0}, "test": test}

    shown = table(
        [result("fine-tuning", 30.0, 1.0), result("+ dpo", 32.0, 3.0), {"name": "gate", "seed": 1, "room": 9.0}],
        ["fine-tuning", "+ dpo"],
        "test",
        ("objective",),
        ("repeats", "invented"),
    )
    assert shown.splitlines() == [
        "| test | objective | difference | repeats | invented | length | seconds |",
        "|---|---|---|---|---|---|---|",
        "| fine-tuning | 30.00 ± 0.00 |  | 5.0% | 1.0% | 1.10 | 10 |",
        "| + dpo | 32.00 ± 0.00 | +2.00 [2.00, 2.00] | 5.0% | 3.0% | 1.10 | 10 |",
    ]
