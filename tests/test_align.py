from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from stages import align, infer
from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import read_json, remove, write_json
from stages.core.params import load_params
from stages.decoding.find_adapter import adapter_in_use
from stages.models.prompt import PromptSettings
from stages.retraining import align as alignment
from stages.retraining.preferences import Compared
from stages.scoring.candidates import Candidate, CandidateRow, read_candidates, write_candidates
from stages.training import session
from tests.test_candidates import trained_folds
from tests.test_train import Killed, die_after_step
from tests.tiny_project import configure


def with_candidates() -> None:
    """A project whose rows have candidates: all that a random model writes scores nothing, so what it could write."""
    from stages import candidates

    trained_folds()
    configure(
        quantization={"load_in_4bit": True, "compute_dtype": "auto"},
        align={"epochs": 2, "learning_rate": 5e-3, "least_gap": 1.0},
    )
    candidates.main()
    rows = []
    for row in read_candidates(paths.CANDIDATES):
        texts = [f"#Person1#은 {row.fname} 일을 합니다.", "둘은 웃습니다.", "#Person2#는 집에 가서 쉽니다."]
        made = [
            Candidate(text, -1.0, number > 0, {"morpheme": 10.0 * number, "clipped": 8.0 * number}, 1.0, [])
            for number, text in enumerate(texts)
        ]
        rows.append(CandidateRow(row.split, row.fname, row.fold, made))
    write_candidates(rows, paths.CANDIDATES)


@pytest.fixture
def project(project_after: Callable[..., Path]) -> None:
    project_after(with_candidates)


def outputs() -> dict[str, bytes]:
    files = [path for folder in (paths.ALIGNED, paths.ALIGNMENT_LOG) for path in sorted(folder.rglob("*"))]
    return {str(path): path.read_bytes() for path in files if path.is_file()}


@pytest.fixture
def trainers(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The trainers that the stage builds, and what their rows are."""
    built: list[Any] = []
    build = session.build_trainer

    def spied(*args: Any, **kwargs: Any) -> Any:
        built.append(build(*args, **kwargs))
        return built[-1]

    monkeypatch.setattr(alignment, "build_trainer", spied)
    return built


@pytest.mark.parametrize("objective", ["ranking", "dpo"])
def test_better_candidates_become_likelier_than_worse_ones(
    objective: str, project: None, trainers: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a 4-bit base, from the trained adapter on: every row's order is learned, and dev's with it."""
    configure(align={"objective": objective, "fine_tuning": 0.0, "margin": 0.5})
    gaps: list[list[float]] = []

    def gap(trainer: Any, rows: list[Any]) -> list[float]:
        found = []
        for row in rows:
            values = alignment.log_probabilities(trainer, row)
            means = [value / len(ids) for value, ids in zip(values, row.completions, strict=True)]
            found.append(means[0] - means[-1])
        return found

    train_from = session.train_from

    def watched(trainer: Any, checkpoint: Path | None) -> None:
        begun = trainer.model.state_dict()
        kept = load_file(paths.ADAPTER / "adapter_model.safetensors")
        assert all((begun[name.replace("weight", "default.weight")] == kept[name]).all() for name in kept)
        rows = [Compared(**row) for row in trainer.train_dataset]
        gaps.append(gap(trainer, rows))
        train_from(trainer, checkpoint)
        gaps.append(gap(trainer, rows))

    monkeypatch.setattr(alignment, "train_from", watched)
    align.main()
    before, after = gaps
    assert len(before) == 12
    assert all(later > earlier for earlier, later in zip(before, after, strict=True))
    assert all(value > 0 for value in after)
    logged = read_json(paths.ALIGNMENT_LOG / "metrics.json")
    assert (logged["rows"], logged["best"]["step"]) == (12, 6)
    losses = [entry["eval_loss"] for entry in trainers[0].state.log_history if "eval_loss" in entry]
    assert losses == sorted(losses, reverse=True)
    card = (paths.ALIGNED / "README.md").read_text(encoding="utf-8")
    assert (
        f"- models/adapter, trained further by {objective} on candidates of 12 rows. Best step: 6, with a loss" in card
    )
    assert f"  objective: {objective}\n" in card
    assert PromptSettings.load(paths.ALIGNED) == PromptSettings.load(paths.ADAPTER)
    assert list(Path("models/checkpoints").glob("*/checkpoint-*")) == []


@pytest.mark.parametrize(("objective", "step"), [("ranking", 5), ("dpo", 3)])
def test_a_killed_alignment_goes_on_to_the_same_bytes(
    objective: str, step: int, project: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(align={"objective": objective}, lora={"dropout": 0.2}, train={"preview_samples": 1})
    align.main()
    whole = outputs()
    assert {name.split("/")[-1] for name in whole} >= {"adapter_model.safetensors", "loss.tsv", "step_000006.md"}
    for folder in (paths.ALIGNED, paths.ALIGNMENT_LOG):
        remove(folder)
    with monkeypatch.context() as patch:
        patch.setattr(session, "Speedometer", die_after_step(step))
        with pytest.raises(Killed):
            align.main()
    assert outputs() == {}
    align.main()
    assert outputs() == whole


def test_what_decodes_takes_the_aligned_adapter(project: None) -> None:
    configure(align={"objective": "ranking"}, train={"preview_samples": 0}, decoding={"min_hangul": 0.0})
    align.main()
    assert adapter_in_use(load_params()) == paths.ALIGNED
    write_json(paths.DECODING, {"objective": "balanced", "chosen": {"max_new_tokens": 8}})
    infer.main()
    aligned = (paths.PREDICTIONS / "test.csv").read_bytes()
    configure(align={"objective": "none"})
    infer.main()
    assert (paths.PREDICTIONS / "test.csv").read_bytes() != aligned
    remove(paths.ADAPTER)
    paths.ALIGNED.rename(paths.ADAPTER)
    infer.main()
    assert (paths.PREDICTIONS / "test.csv").read_bytes() == aligned


def test_candidates_that_do_not_differ_teach_nothing(project: None) -> None:
    configure(align={"objective": "dpo", "least_gap": 50.0})
    with pytest.raises(UserError, match="no row of train has candidates that differ enough to compare; raise cand"):
        align.main()
    assert outputs() == {}


def test_without_an_objective_nothing_is_loaded_and_outputs_are_empty(
    tiny_project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "stages.retraining.align", None)  # an import of it would fail
    align.main()
    assert list(paths.ALIGNED.iterdir()) == list(paths.ALIGNMENT_LOG.iterdir()) == []
