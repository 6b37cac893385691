"""Loads a base model and its tokenizer from models/base.json, quantised as params.yaml says."""

from __future__ import annotations

import logging
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from stages.common.errors import UserError
from stages.common.files import read_json
from stages.common.lora import use_lora_linear
from stages.common.params import Quantization
from stages.common.weights import locate

logger = logging.getLogger(__name__)


def load_tokenizer(manifest: Path) -> PreTrainedTokenizerBase:
    """The base model's tokenizer; batches are padded on the left, as generation needs it."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(locate(read_json(manifest)))
    tokenizer.padding_side = "left"
    return tokenizer


def load_base(manifest: Path, quantization: Quantization) -> PreTrainedModel:
    """The frozen base model on the GPU, or on the CPU where there is none."""
    dtype = compute_dtype(quantization.compute_dtype)
    config = None
    if quantization.load_in_4bit:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantization.type,
            bnb_4bit_use_double_quant=quantization.double_quant,
            bnb_4bit_compute_dtype=dtype,
        )
    model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(
        locate(read_json(manifest)),
        dtype=dtype,
        quantization_config=config,
        use_safetensors=True,
        device_map={"": 0 if torch.cuda.is_available() else "cpu"},
    )
    # What a stage leaves open when it generates would be filled in from the checkpoint's own settings: a least length,
    # a ban on n-grams, a second way to stop.
    own = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
    )
    for module in model.modules():
        # On CPUs with AVX-512 BF16, bitsandbytes repacks a 4-bit layer at its first forward in evaluation mode.
        # The repacked product passes no gradient to its input, and `dequantize` reads garbage from it: training
        # that goes on after an evaluation would silently learn wrong.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def load_for_generation(manifest: Path, adapter: Path | None, quantization: Quantization) -> PreTrainedModel:
    """The base model with its adapter, for generation; without `adapter`, the base model alone.

    Where memory allows, the 4-bit weights are dequantised once: the same numbers, without the work at each token.
    """
    model = load_base(manifest, quantization)
    if quantization.load_in_4bit and _fits_dequantised(model):
        model = model.dequantize()
    if adapter is not None:
        config = use_lora_linear(LoraConfig.from_pretrained(adapter))
        config.lora_dropout = 0.0  # only training has it
        # PEFT would hold the adapter in float32, and convert what goes in and out of it at every layer.
        model = PeftModel.from_pretrained(model, adapter, config=config, autocast_adapter_dtype=False)
    model.eval()
    return model


def compute_dtype(name: str) -> torch.dtype:
    """The dtype that `quantization.compute_dtype` names; auto is bfloat16, or float16 on GPUs without it.

    Raises:
        UserError: float16 without a GPU.
    """
    if name == "float16" and not torch.cuda.is_available():
        raise UserError(
            "params.yaml: quantization.compute_dtype = 'float16': needs a GPU; allowed: auto, bfloat16, float32"
        )
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.float16
    return torch.bfloat16


def has_fp8() -> bool:
    """Whether there is a GPU whose products of 8-bit floats take a scale a row, as from NVIDIA's Hopper on."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)


def _fits_dequantised(model: PreTrainedModel) -> bool:
    """Whether two bytes a weight take at most half of the free GPU memory; on the CPU they always may."""
    if model.device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info()
    return bool(2 * model.num_parameters() < free / 2)
