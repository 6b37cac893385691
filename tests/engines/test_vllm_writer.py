"""vLLM needs a GPU: here a stand-in takes its place, which writes with the tiny model through transformers."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

from stages.core.errors import UserError
from stages.engines.batches import Limits
from stages.engines.settings import DecodingSettings
from stages.engines.transformers_writer import TransformersWriter
from stages.engines.vllm_writer import VllmWriter
from stages.engines.writer import Sampling
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer

DIALOGUES = ["#Person1#: 안녕하세요.", "#Person1#: 내일 만나요.\n#Person2#: 좋아요."]


class LLM:
    """What is used of `vllm.LLM`, with its signatures and results."""

    def __init__(self, model: str, seed: int, enable_prefix_caching: bool) -> None:
        self.model = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)

    def generate(self, prompts: list[dict[str, Any]], params: Any, use_tqdm: bool) -> list[Any]:
        how = {"do_sample": params.temperature > 0}
        if params.temperature > 0:
            how |= {"temperature": params.temperature, "top_k": params.top_k, "num_return_sequences": params.n}
        return [
            SimpleNamespace(outputs=[SimpleNamespace(token_ids=ids[n:]) for ids in self._write(prompt, params, **how)])
            for prompt in prompts
            for n in [len(prompt["prompt_token_ids"])]
        ]

    def beam_search(self, prompts: list[dict[str, Any]], params: Any) -> list[Any]:
        how = {"num_beams": params.beam_width, "length_penalty": params.length_penalty}
        return [
            SimpleNamespace(sequences=[SimpleNamespace(tokens=ids) for ids in self._write(prompt, params, **how)])
            for prompt in prompts
        ]

    def _write(self, prompt: dict[str, Any], params: Any, **how: Any) -> list[list[int]]:
        ids = torch.tensor([prompt["prompt_token_ids"]])
        with torch.inference_mode():
            output = self.model.generate(input_ids=ids, max_new_tokens=params.max_tokens, **how)
        written: list[list[int]] = output.tolist()
        return written


@pytest.fixture
def vllm(monkeypatch: pytest.MonkeyPatch) -> None:
    module = ModuleType("vllm")
    module.LLM = LLM  # type: ignore[attr-defined]
    module.SamplingParams = SimpleNamespace  # type: ignore[attr-defined]
    module.BeamSearchParams = SimpleNamespace  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "vllm", module)


@pytest.fixture
def builder(tiny_manifest: Path) -> PromptBuilder:
    return PromptBuilder(load_tokenizer(tiny_manifest), PromptSettings("plain", "요약", 200, None, ()))


@pytest.mark.parametrize(
    "settings",
    [DecodingSettings(6), DecodingSettings(6, num_beams=3, length_penalty=0.7)],
    ids=["greedy", "beams"],
)
def test_it_writes_what_the_merged_model_writes(
    settings: DecodingSettings, vllm: None, builder: PromptBuilder, tiny_checkpoint: Path
) -> None:
    writer = VllmWriter(tiny_checkpoint, builder)
    model = AutoModelForCausalLM.from_pretrained(tiny_checkpoint, dtype=torch.float32)
    expected = TransformersWriter(model, builder).candidates(DIALOGUES, settings)
    assert writer.prepare(DIALOGUES) == [len(builder.prompt_ids(dialogue)) for dialogue in DIALOGUES]
    assert [texts[0] for texts in writer.candidates(DIALOGUES, settings)] == [texts[0] for texts in expected]
    assert [len(texts) for texts in writer.samples(DIALOGUES, settings, Sampling(3, 0.7, 0), Limits(8))] == [3, 3]


def test_what_it_cannot_do_is_said(vllm: None, builder: PromptBuilder, tiny_checkpoint: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no merged model; run `python -m stages.export`"):
        VllmWriter(tmp_path, builder)
    writer = VllmWriter(tiny_checkpoint, builder)
    with pytest.raises(UserError) as error:
        writer.candidates(DIALOGUES, DecodingSettings(6, max_length=0.3))
    assert str(error.value) == (
        "metrics/eval/decoding.json: max_length = 0.3: vLLM's greedy search has no such setting; "
        "set decoding.engine: transformers, or tune_max_length: [0.0]"
    )
    with pytest.raises(UserError) as error:
        writer.candidates(DIALOGUES, DecodingSettings(6, num_beams=2, repetition_penalty=1.1))
    assert str(error.value) == (
        "metrics/eval/decoding.json: repetition_penalty = 1.1: vLLM's beam search has no such setting; "
        "set decoding.engine: transformers, or tune_repetition_penalty: [1.0]"
    )
    with pytest.raises(UserError, match=r"min_length = 0\.1: vLLM's greedy search has no such setting"):
        writer.samples(DIALOGUES, DecodingSettings(6, min_length=0.1), Sampling(3, 0.7, 0), Limits(8))


def test_without_vllm_the_extra_is_named(
    builder: PromptBuilder, tiny_checkpoint: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(UserError, match=r"vLLM is not installed; run `pip install -e '\.\[vllm\]'`"):
        VllmWriter(tiny_checkpoint, builder)
