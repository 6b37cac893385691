"""What several GPUs write is what one writes. Two processes on the CPU stand for two GPUs: all else is as there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerContext
from pathlib import Path

import pytest

from stages import infer, train, tune_decoding
from stages.core import paths
from stages.decoding import workers
from stages.engines.transformers_writer import TransformersWriter
from tests.tiny_project import configure

BATCHES = {"batch_size": 1, "max_new_tokens": 12, "tune_samples": 4, "tune_length_penalty": [0.7, 3.0]}


def train_once() -> None:
    """A project with an adapter on an NF4 base, and a batch for each dialogue."""
    configure(train={"epochs": 0.25, "preview_samples": 0}, decoding=BATCHES)
    train.main()


@pytest.fixture
def trained(project_after: Callable[..., Path]) -> None:
    project_after(train_once)


@pytest.fixture
def two_gpus(forkserver: ForkServerContext, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    def spread() -> None:
        for stage in (infer, tune_decoding):
            monkeypatch.setattr(stage, "gpus_that_write", lambda decoding: ["", ""])
        monkeypatch.setattr(workers, "get_context", lambda method: forkserver)

    return spread


def outputs() -> dict[Path, bytes]:
    folders = (paths.PREDICTIONS, paths.DECODING_POINTS)
    files = [paths.SUBMISSION, paths.POSTPROCESS_EFFECTS, paths.DECODING]
    return {path: path.read_bytes() for path in [*files, *(each for of in folders for each in of.iterdir())]}


@pytest.mark.slow
@pytest.mark.parametrize("rerank", [False, True])
def test_two_write_the_bytes_that_one_writes(rerank: bool, trained: None, two_gpus: Callable[[], None]) -> None:
    configure(decoding={"tune_rerank": rerank, "rerank": "mbr" if rerank else "none", "samples": 3})
    tune_decoding.main()
    infer.main()
    alone = outputs()
    two_gpus()
    tune_decoding.main()
    infer.main()
    assert outputs() == alone


@pytest.mark.slow
def test_two_go_on_with_what_one_began(
    trained: None, two_gpus: Callable[[], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    tune_decoding.main()
    infer.main()
    alone = outputs()
    write, written = TransformersWriter.write, 0

    def killed(self: TransformersWriter, dialogues: Sequence[str], *rest: object) -> list[str]:
        nonlocal written
        if written == 3:
            raise KeyboardInterrupt
        written += 1
        return write(self, dialogues, *rest)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(TransformersWriter, "write", killed)
        infer.main()
    [log] = Path("models/partial").glob("*.jsonl")
    assert log.read_bytes().count(b"\n") == 3
    two_gpus()
    infer.main()
    assert outputs() == alone
    assert not log.exists()
