"""Loads a base model from models/base.json, quantized as params.yaml says."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import torch
from peft import LoraConfig, PeftModel
from transformers import (
    AutoModelForCausalLM,
    GenerationConfig,
    PreTrainedConfig,
    PreTrainedModel,
)
from transformers.utils import logging as library_logging

from stages.core.errors import UserError
from stages.core.files import read_json
from stages.core.params import Quantization
from stages.layers.lora_linear import use_lora_linear
from stages.layers.quantized_linear import is_quantized
from stages.models.download import locate
from stages.models.families import IN_A_WRAPPER, family_of, refuse_unknown, text_config
from stages.models.quantizers import quantizer, quantizes, refuse_other_settings, stored

logger = logging.getLogger(__name__)


def load_base(manifest: Path, quantization: Quantization) -> PreTrainedModel:
    """The frozen base model on the GPU, or on the CPU where there is none; of a multimodal model, its text part.

    Raises:
        UserError: the checkpoint is of no family that can be trained, is stored otherwise than `quantization` says, or
            lacks weights.
    """
    base = read_json(manifest)
    folder = locate(base)  # with the Hub's bars, where it downloads
    library_logging.disable_progress_bar()
    refuse_unknown(folder, f"{manifest}: {base['name']}")
    refuse_other_settings(folder, quantization, base["name"])
    config, wrapped = text_config(folder)
    dtype = compute_dtype(quantization.compute_dtype, config)
    if hasattr(config, "output_router_logits"):
        config.output_router_logits = False  # only to train a router, which is frozen
    as_stored = stored(folder)
    if as_stored:
        config.quantization_config = as_stored | {"bnb_4bit_compute_dtype": str(dtype).removeprefix("torch.")}
    model: PreTrainedModel
    # Of a multimodal model, all that is not text is left where it is, and need not be listed.
    with _quiet() if wrapped else nullcontext():
        model, loaded = AutoModelForCausalLM.from_pretrained(
            folder,
            config=config,
            key_mapping=IN_A_WRAPPER if wrapped else None,
            dtype=dtype,
            quantization_config=None if as_stored else quantizer(quantization).config(quantization, dtype),
            attn_implementation=family_of(config).attention,
            use_safetensors=True,
            device_map={"": torch.cuda.current_device() if torch.cuda.is_available() else "cpu"},
            output_loading_info=True,
        )
    if loaded["missing_keys"]:
        missing = sorted(loaded["missing_keys"])
        raise UserError(
            f"{manifest}: {base['name']}: the checkpoint lacks {len(missing)} weights, such as {missing[0]}"
        )
    # What a stage leaves open when it generates would be filled in from the checkpoint's own settings: a least length,
    # a ban on n-grams, a second way to stop.
    own = model.generation_config
    model.generation_config = GenerationConfig(
        bos_token_id=own.bos_token_id, eos_token_id=own.eos_token_id, pad_token_id=own.pad_token_id
    )
    if wrapped:
        # What is saved of it is a text model, with its own names.
        model._weight_conversions = [
            each for each in model._weight_conversions if each.source_patterns[0] not in IN_A_WRAPPER
        ]
    if as_stored:
        _compute_in(model, dtype)
    for module in model.modules():
        # On CPUs with AVX-512 BF16, bitsandbytes repacks a 4-bit layer at its first forward in evaluation mode.
        # The repacked product passes no gradient to its input, and `dequantize` reads garbage from it: training
        # that goes on after an evaluation would silently learn wrong.
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False
    return model


def load_for_generation(manifest: Path, adapter: Path | None, quantization: Quantization) -> PreTrainedModel:
    """The base model with its adapter, for generation; without `adapter`, the base model alone.

    Where memory allows, the 4-bit weights are dequantized once: the same numbers, without the work at each token.
    """
    model = load_base(manifest, quantization)
    if quantizes(quantization) and _fits_dequantized(model):
        model = model.dequantize()
    if adapter is not None:
        config = use_lora_linear(LoraConfig.from_pretrained(adapter))
        config.lora_dropout = 0.0  # only training has it
        # PEFT would hold the adapter in float32, and convert what goes in and out of it at every layer.
        model = PeftModel.from_pretrained(model, adapter, config=config, autocast_adapter_dtype=False)
    model.eval()
    return model


def compute_dtype(name: str, config: PreTrainedConfig) -> torch.dtype:
    """The dtype that `quantization.compute_dtype` names for a model of this configuration.

    auto is bfloat16 where the device computes in it, else float16 on a GPU and float32 on a CPU: without instructions
    for bfloat16, as most laptops are, a CPU takes 200 times as long for a product in it as for one in float32. NVIDIA's
    GPUs before Ampere, such as a T4, have no bfloat16; families that float16 cannot hold are computed in float32 there.

    Raises:
        UserError: float16 without a GPU, or for such a family.
    """
    float16 = family_of(config).float16
    if name == "float16" and not torch.cuda.is_available():
        raise UserError(
            "params.yaml: quantization.compute_dtype = 'float16': needs a GPU; allowed: auto, bfloat16, float32"
        )
    if name == "float16" and not float16:
        raise UserError(
            f"params.yaml: quantization.compute_dtype = 'float16': {config.model_type} reaches numbers that float16 "
            "cannot hold; allowed: auto, bfloat16, float32"
        )
    if name != "auto":
        dtype: torch.dtype = getattr(torch, name)
        return dtype
    if not torch.cuda.is_available():
        return torch.bfloat16 if cpu_has_bfloat16() else torch.float32
    if torch.cuda.is_bf16_supported(including_emulation=False):
        return torch.bfloat16
    return torch.float16 if float16 else torch.float32


def cpu_has_bfloat16() -> bool:
    """Whether oneDNN, which multiplies matrices on a CPU, has bfloat16 for it: AVX-512 on x86, BF16 on Arm."""
    return torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def has_fp8() -> bool:
    """Whether there is a GPU whose products of 8-bit floats take a scale a row, as from NVIDIA's Hopper on."""
    return torch.cuda.is_available() and torch.cuda.get_device_capability() >= (9, 0)


def _compute_in(model: PreTrainedModel, dtype: torch.dtype) -> None:
    """Have a model whose checkpoint was quantized compute in a dtype; transformers leaves it that of the checkpoint."""
    for parameter in model.parameters():
        if parameter.is_floating_point():
            parameter.data = parameter.data.to(dtype)
    for module in model.modules():
        if is_quantized(module):
            module.weight.quant_state.dtype = dtype


@contextmanager
def _quiet() -> Iterator[None]:
    """Let transformers say nothing meanwhile but errors."""
    before = library_logging.get_verbosity()
    library_logging.set_verbosity_error()
    try:
        yield
    finally:
        library_logging.set_verbosity(before)


def _fits_dequantized(model: PreTrainedModel) -> bool:
    """Whether two bytes a weight take at most half of the free GPU memory; on the CPU they always may."""
    if model.device.type != "cuda":
        return True
    free, _ = torch.cuda.mem_get_info()
    return bool(2 * model.num_parameters() < free / 2)
