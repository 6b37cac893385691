from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import bitsandbytes as bnb
import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import (
    Gemma2Config,
    Gemma3TextConfig,
    Glm4Config,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    set_seed,
)

from stages.core.errors import UserError
from stages.core.params import Quantization
from stages.models.adapter_files import save_adapter
from stages.models.load import compute_dtype, cpu_has_bfloat16, load_base, load_for_generation
from stages.models.tokenizer import load_tokenizer

IDS = torch.arange(3, 43).view(2, 20)
LLAMA = LlamaConfig()

needs_no_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="is about the CPU")


def quantization(**values: object) -> Quantization:
    defaults = {"load_in_4bit": True, "type": "nf4", "double_quant": True, "compute_dtype": "auto", "compute": "bf16"}
    return Quantization.model_validate(defaults | values)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.inference_mode():
        computed: torch.Tensor = model.eval()(input_ids=IDS.to(model.device)).logits
    return computed


def linear_layers(model: PreTrainedModel) -> dict[str, Any]:
    """Those that are quantized: all but the output embedding."""
    named = {path: module for path, module in model.named_modules() if isinstance(module, torch.nn.Linear)}
    return {path: module for path, module in named.items() if not path.endswith("lm_head")}


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("double_quant", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32"])
def test_dequantized_once_it_gives_the_logits_of_the_4_bit_model(
    kind: str, double_quant: bool, dtype: str, tiny_manifest: Path
) -> None:
    settings = quantization(type=kind, double_quant=double_quant, compute_dtype=dtype)
    base, once = load_base(tiny_manifest, settings), load_for_generation(tiny_manifest, None, settings)
    assert all(isinstance(module, bnb.nn.Linear4bit) for module in linear_layers(base).values())
    assert not any(isinstance(module, bnb.nn.Linear4bit) for module in once.modules())
    assert torch.equal(logits(once), logits(base))
    assert not torch.equal(logits(base), logits(load_base(tiny_manifest, quantization(load_in_4bit=False))))


def test_with_an_adapter_the_dequantized_model_gives_the_logits_of_the_4_bit_model(
    tiny_manifest: Path, tmp_path: Path
) -> None:
    # In bfloat16 PEFT rounds the product of an adapter once more on a 4-bit layer than on another.
    settings = quantization(compute_dtype="float32")
    set_seed(0)
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    save_adapter(get_peft_model(load_base(tiny_manifest, settings), config), tmp_path, "tiny")
    in_4_bit = PeftModel.from_pretrained(load_base(tiny_manifest, settings), tmp_path)
    once = load_for_generation(tiny_manifest, tmp_path, settings)
    assert not once.training
    torch.testing.assert_close(logits(once), logits(in_4_bit))
    assert not torch.allclose(logits(once), logits(load_for_generation(tiny_manifest, None, settings)), atol=1e-2)


def test_the_base_is_quantized_as_the_parameters_say(tiny_manifest: Path) -> None:
    model = load_base(tiny_manifest, quantization(type="fp4", double_quant=False))
    assert len(linear_layers(model)) == 14
    for module in linear_layers(model).values():
        assert isinstance(module, bnb.nn.Linear4bit)
        assert module.weight.quant_type == "fp4"
        assert not module.weight.quant_state.nested
        assert module.compute_dtype == compute_dtype("auto", LLAMA)
    assert model.get_output_embeddings().weight.dtype == compute_dtype("auto", LLAMA)
    nested = load_base(tiny_manifest, quantization())
    assert all(module.weight.quant_state.nested for module in linear_layers(nested).values())


def test_without_quantization_all_weights_are_in_the_compute_dtype(tiny_manifest: Path) -> None:
    model = load_base(tiny_manifest, quantization(load_in_4bit=False, compute_dtype="float32"))
    assert {weight.dtype for weight in model.parameters()} == {torch.float32}


def test_an_evaluation_leaves_the_4_bit_weights_as_they_are(tiny_manifest: Path) -> None:
    model = load_base(tiny_manifest, quantization())
    before = {path: module.weight.data.clone() for path, module in linear_layers(model).items()}
    logits(model)
    assert all(torch.equal(module.weight.data, before[path]) for path, module in linear_layers(model).items())


@needs_no_gpu
def test_compute_dtype_on_the_cpu() -> None:
    assert compute_dtype("auto", LLAMA) == (torch.bfloat16 if cpu_has_bfloat16() else torch.float32)
    assert compute_dtype("bfloat16", LLAMA) == torch.bfloat16
    assert compute_dtype("float32", LLAMA) == torch.float32
    with pytest.raises(UserError) as error:
        compute_dtype("float16", LLAMA)
    assert str(error.value) == (
        "params.yaml: quantization.compute_dtype = 'float16': needs a GPU; allowed: auto, bfloat16, float32"
    )


@pytest.mark.parametrize("config", [LlamaConfig(), Gemma3TextConfig()], ids=lambda config: config.model_type)
def test_compute_dtype_on_a_gpu_with_bfloat16(
    config: PreTrainedConfig, t4: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(major=8, minor=9))
    assert compute_dtype("auto", config) == torch.bfloat16


def test_compute_dtype_on_a_gpu_without_bfloat16(t4: None) -> None:
    assert compute_dtype("auto", LLAMA) == compute_dtype("float16", LLAMA) == torch.float16
    assert compute_dtype("bfloat16", LLAMA) == torch.bfloat16


@pytest.mark.parametrize(
    "config", [Gemma2Config(), Gemma3TextConfig(), Glm4Config()], ids=lambda config: config.model_type
)
def test_what_float16_cannot_hold_is_computed_in_float32(config: PreTrainedConfig, t4: None) -> None:
    assert compute_dtype("auto", config) == torch.float32
    with pytest.raises(UserError) as error:
        compute_dtype("float16", config)
    assert str(error.value) == (
        f"params.yaml: quantization.compute_dtype = 'float16': {config.model_type} reaches numbers that float16 cannot "
        "hold; allowed: auto, bfloat16, float32"
    )


def test_batches_of_the_tokenizer_are_padded_on_the_left(tiny_manifest: Path) -> None:
    batch = load_tokenizer(tiny_manifest)(["가", "가 나 다"], padding=True)
    assert batch["attention_mask"][0][0] == 0
    assert batch["attention_mask"][0][-1] == 1


def test_a_relative_path_is_one_of_the_repository(
    tiny_checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Queued experiments run in a copy, and find what is not in Git where DVC_ROOT points."""
    (tmp_path / "repository/models").mkdir(parents=True)
    (tmp_path / "repository/models/tiny").symlink_to(tiny_checkpoint)
    manifest = tmp_path / "base.json"
    manifest.write_text(json.dumps({"name": "tiny", "source": "local", "path": "models/tiny"}), encoding="utf-8")
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "repository"))
    assert load_base(manifest, quantization()).num_parameters() > 0
