from __future__ import annotations

import logging
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from transformers import PreTrainedModel

from stages.core.params import Quantization
from stages.corpus.spread import spread
from stages.engines.settings import DecodingSettings
from stages.models.load import load_for_generation
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer
from stages.scoring.rouge import morpheme_scores
from stages.serving.summarize import summarize
from stages.training.preview import Preview

FNAMES = [f"dev_{i}" for i in range(5)]
DIALOGUES = [f"#Person1#: {'안녕하세요. ' * (i + 1)}\n#Person2#: 네, {i}번입니다." for i in range(5)]


@pytest.fixture(scope="module")
def model(tiny_manifest: Path) -> PreTrainedModel:
    return load_for_generation(
        tiny_manifest,
        None,
        Quantization(load_in_4bit=False, type="nf4", double_quant=True, compute_dtype="float32", compute="bf16"),
    )


@pytest.fixture
def builder(tiny_manifest: Path) -> PromptBuilder:
    return PromptBuilder(load_tokenizer(tiny_manifest), PromptSettings("plain", "요약", 200, None, ()))


def preview(builder: PromptBuilder, references: list[list[str]], *, n: int, folder: Path) -> Preview:
    return Preview(builder, FNAMES, DIALOGUES, references, n=n, max_new_tokens=10, batch_size=2, folder=folder)


def test_the_same_samples_are_summarized_and_scored(
    model: PreTrainedModel, builder: PromptBuilder, tmp_path: Path
) -> None:
    written = summarize(model, builder, DIALOGUES, DecodingSettings(10), batch_size=5, label="test")
    references = [[f"{written[0]} 그리고 더.", "다른 참조."], *[["참조입니다."]] * 4]
    samples = preview(builder, references, n=2, folder=tmp_path / "previews")
    expected = morpheme_scores([written[0], written[2]], [references[0], references[2]]).rounded()
    assert expected["final"] > 0

    assert samples.run(model, 12) == expected
    assert samples.run(model, 24) == expected
    assert sorted(path.name for path in (tmp_path / "previews").iterdir()) == ["step_000012.md", "step_000024.md"]
    text = (tmp_path / "previews/step_000012.md").read_text(encoding="utf-8")
    assert text == (
        f"## dev_0\n\n- {written[0]}\n- reference: {references[0][0]}\n\n"
        f"## dev_2\n\n- {written[2]}\n- reference: 참조입니다.\n"
    )

    samples.copy_to(tmp_path / "logs")
    assert (tmp_path / "logs/step_000012.md").read_text(encoding="utf-8") == text


def test_the_time_that_previews_take_is_known_before_one_is_written(
    model: PreTrainedModel, builder: PromptBuilder, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    samples = preview(builder, [["참조."]] * 5, n=3, folder=tmp_path / "previews")
    with caplog.at_level(logging.INFO):
        assert samples.seconds(model) > 0
    assert caplog.messages == []
    assert list(tmp_path.iterdir()) == []


def test_no_samples_no_scores(model: PreTrainedModel, builder: PromptBuilder, tmp_path: Path) -> None:
    samples = preview(builder, [["참조."]] * 5, n=0, folder=tmp_path / "previews")
    assert samples.run(model, 12) == {}
    assert samples.seconds(model) == 0
    samples.copy_to(tmp_path / "logs")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("length", "n", "rows"), [(16, 4, [0, 4, 8, 12]), (5, 2, [0, 2]), (3, 9, [0, 1, 2]), (7, 0, []), (1, 1, [0])]
)
def test_spread(length: int, n: int, rows: list[int]) -> None:
    assert spread(length, n) == rows


@given(st.integers(1, 1000), st.integers(0, 1000))
def test_spread_takes_distinct_rows_at_even_distances(length: int, n: int) -> None:
    rows = spread(length, n)
    assert len(rows) == min(length, n)
    assert all(0 <= row < length for row in rows)
    steps = {later - earlier for earlier, later in pairwise(rows)}
    assert not steps or (min(steps) >= 1 and max(steps) - min(steps) <= 1)
