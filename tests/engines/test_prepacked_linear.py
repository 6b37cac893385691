"""Packed layers multiply as those that they stand for, and no other layer is packed."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import PreTrainedModel

from stages.engines.prepacked_linear import PackedLinear, pack_linears
from stages.layers.lora_linear import use_lora_linear
from stages.models.load import load_for_generation
from tests.models.test_load import logits, quantization

pytestmark = pytest.mark.skipif(
    torch.cuda.is_available() or not torch.ops.mkldnn._is_mkldnn_bf16_supported(), reason="is about a CPU with bfloat16"
)


def merged(model: PreTrainedModel) -> PeftModel:
    config = LoraConfig(r=4, target_modules="all-linear", task_type="CAUSAL_LM", init_lora_weights=False)
    adapted = get_peft_model(model, use_lora_linear(config), autocast_adapter_dtype=False)
    adapted.merge_adapter()
    return adapted


def packed(model: PreTrainedModel) -> list[str]:
    return [path for path, module in model.named_modules() if isinstance(module, PackedLinear)]


def test_it_gives_the_logits_of_the_model_that_it_was(tiny_manifest: Path) -> None:
    torch.manual_seed(0)
    model = merged(load_for_generation(tiny_manifest, None, quantization()))
    expected = logits(model)
    pack_linears(model)
    assert len(packed(model)) == 2 * 7 + 1
    found = logits(model)
    # Both round to bfloat16 at every layer.
    assert (found - expected).norm() / expected.norm() < 0.01


@pytest.mark.parametrize("changed", [{"compute_dtype": "float32"}, {"compute_dtype": "float32", "load_in_4bit": False}])
def test_what_is_not_bfloat16_stays(changed: dict[str, object], tiny_manifest: Path) -> None:
    torch.manual_seed(0)
    model = merged(load_for_generation(tiny_manifest, None, quantization(**changed)))
    expected = logits(model)
    pack_linears(model)
    assert not packed(model)
    assert torch.equal(logits(model), expected)
