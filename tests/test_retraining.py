"""Folds with what uses them, as one pipeline: an ensemble, weighed by tuning, and a refit; candidates, an alignment."""

from __future__ import annotations

import json

import pytest

from tests.clone import Clone, stages_run

pytestmark = pytest.mark.slow


def test_all_of_it_is_one_run_of_the_pipeline(finished: Clone) -> None:
    finished.restore()
    changes = {
        "folds": {"n": 2},
        "refit": {"enabled": True},
        "decoding": {"tune_rerank": True, "ensemble": ["folds"], "samples": 2},
    }
    finished.edit("params.yaml", changes)
    log = finished.dvc("repro")
    assert stages_run(log).count("folds") == 1
    decoding = {"out_of_fold", "candidates", "tune_decoding", "infer", "evaluate"}
    ran = {"find_inputs", "folds", "refit", *decoding}
    assert set(stages_run(log)) == ran
    folder = finished.folder
    assert {path.name for path in (folder / "models/folds").iterdir()} == {"0", "1", "rows.csv"}
    assert len((folder / "data/out_of_fold.csv").read_text(encoding="utf-8").splitlines()) == 1 + 12
    assert json.loads(finished.bytes("metrics/eval/folds.json"))["rows"] == 12
    assert {each["rerank"] for each in json.loads(finished.bytes("metrics/eval/decoding.json"))["tried"]} == {
        "none",
        "mbr",
    }
    assert "models/refit, which learned dev too" in finished.run("python", "-m", "stages.show").stdout
    lock = finished.bytes("dvc.lock")
    assert "Data and pipelines are up to date." in finished.dvc("repro")
    # Decoding is no reason to train again, and what was before comes out of the cache.
    finished.edit("params.yaml", {"decoding": {"max_new_tokens": 9}})
    assert set(stages_run(finished.dvc("repro"))) == decoding
    finished.restore()
    assert finished.bytes("dvc.lock") != lock
    assert "Data and pipelines are up to date." in finished.dvc("repro")


def test_candidates_are_written_once_for_all_that_learns_from_them(finished: Clone) -> None:
    finished.restore()
    changes = {
        "folds": {"n": 2},
        "candidates": {"samples": 2, "num_beams": 2},
        "align": {"objective": "ranking"},
        "decoding": {"rerank": "learned", "samples": 2},
    }
    finished.edit("params.yaml", changes)
    log = finished.dvc("repro", "infer")  # the report reads no text as odd as a random model's samples
    assert {"candidates", "align", "tune_decoding", "infer"} <= set(stages_run(log))
    candidates = finished.bytes("data/candidates.jsonl")
    assert len(candidates.splitlines()) == 12 + 12
    assert json.loads(finished.bytes("metrics/eval/decoding.json"))["reranker"]["cross_validated"]["rows"] == 12
    assert (finished.folder / "models/aligned/adapter_model.safetensors").is_file()
    assert (finished.folder / "metrics/align/metrics.json").is_file()
    assert "Data and pipelines are up to date." in finished.dvc("repro", "infer")
    finished.edit("params.yaml", {"align": {"objective": "dpo", "least_gap": 0.0}, "reward": {"length": 9.0}})
    assert set(stages_run(finished.dvc("repro", "infer"))) == {"align", "tune_decoding", "infer"}
    assert finished.bytes("data/candidates.jsonl") == candidates
    finished.restore()
