"""A tiny random checkpoint of each family, with weights so large that soft caps, sinks and windows change the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    PreTrainedConfig,
    PreTrainedModel,
    set_seed,
)

from tests.tiny import _tokenizer

VOCABULARY = 512
SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "pad_token_id": 0,
}
MIXED = ["sliding_attention", "full_attention"] * 2
WINDOW: dict[str, Any] = {"sliding_window": 6, "layer_types": MIXED}
DELTA: dict[str, Any] = {
    "layer_types": ["linear_attention", "linear_attention", "linear_attention", "full_attention"],
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 8,
    "linear_num_key_heads": 2,
    "linear_num_value_heads": 4,
}
CONFIGS: dict[str, dict[str, Any]] = {
    "llama": {},
    "mistral": {"sliding_window": 6},
    "qwen2": {},
    "qwen3": {},
    "gemma": {},
    "gemma2": {**WINDOW, "attn_logit_softcapping": 1.5, "final_logit_softcapping": 4.0, "query_pre_attn_scalar": 8},
    "gemma3_text": {**WINDOW, "query_pre_attn_scalar": 8},
    "gemma4_text": {
        **WINDOW,
        "final_logit_softcapping": 4.0,
        "global_head_dim": 16,
        "num_kv_shared_layers": 2,
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": VOCABULARY,
    },
    "gemma4_unified_text": {**WINDOW, "final_logit_softcapping": 4.0, "global_head_dim": 16},
    "ministral": WINDOW,
    "ministral3": {
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 1e4,
            "llama_4_scaling_beta": 0.5,
            "original_max_position_embeddings": 8,
        }
    },
    "exaone4": {**WINDOW, "sliding_window_pattern": 2},
    "hyperclovax": {"logits_scaling": 0.25, "attention_multiplier": 0.5, "residual_multiplier": 0.7},
    "gpt_neox": {},
    "phi3": {"sliding_window": 6},
    "granite": {"logits_scaling": 3.0, "attention_multiplier": 0.3, "embedding_multiplier": 2.0},
    "cohere": {"logit_scale": 0.25},
    "cohere2": {**WINDOW, "logit_scale": 0.25},
    "olmo2": {},
    "olmo3": WINDOW,
    "glm4": {},
    "smollm3": {},
    "seed_oss": {"attention_dropout": 0.0, "residual_dropout": 0.0},
    "gpt_oss": {**WINDOW, "num_local_experts": 4, "num_experts_per_tok": 2},
    "lfm2": {"layer_types": ["conv", "full_attention", "conv", "full_attention"], "block_auto_adjust_ff_dim": False},
    "qwen3_5_text": DELTA,
    "qwen3_next": {
        **DELTA,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
        "shared_expert_intermediate_size": 16,
    },
}
"""What each family's configuration has beside `SHAPE`."""
WRAPPED = {
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "gemma4_unified": "gemma4_unified_text",
    "mistral3": "ministral3",
    "qwen3_5": "qwen3_5_text",
}
TOWERS = {
    "gemma3": "siglip_vision_model",
    "gemma4": "gemma4_vision",
    "gemma4_unified": "gemma4_unified_vision",
    "mistral3": "pixtral",
    "qwen3_5": "qwen3_5_vision",
}
VISION: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 16,
    "num_hidden_layers": 1,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "depth": 1,
    "num_heads": 2,
    "out_hidden_size": 32,
    "image_size": 28,
    "patch_size": 14,
    "mm_embed_dim": 16,
    "mm_posemb_size": 8,
}


def text(family: str, **changes: Any) -> PreTrainedConfig:
    """The configuration of a family's tiny model."""
    return AutoConfig.for_model(family, **SHAPE | CONFIGS[family] | changes)


def config(kind: str) -> PreTrainedConfig:
    """The configuration of a family's tiny model, or of a wrapper's."""
    if kind not in WRAPPED:
        return text(kind)
    inner = text(WRAPPED[kind]).to_dict()
    return AutoConfig.for_model(
        kind,
        text_config=inner,
        vision_config={"model_type": TOWERS[kind], **VISION},
        tie_word_embeddings=inner["tie_word_embeddings"],
    )


def build(kind: str, folder: Path) -> PreTrainedModel:
    """Write a family's tiny checkpoint with its tokenizer; returns the model as transformers makes it, eager."""
    set_seed(0)
    auto = AutoModelForImageTextToText if kind in WRAPPED else AutoModelForCausalLM
    model: PreTrainedModel = auto.from_config(config(kind), attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if weight.ndim > 1 and "embed" not in name:
                weight.normal_(0.0, (3.0 if kind in ("lfm2", "cohere2") else 1.5) * weight.shape[-1] ** -0.5)
            if name.endswith("sinks"):
                weight.normal_(1.0, 1.0)
            if "embed" in name and weight.ndim == 2:
                weight.normal_(0.0, 0.3)
    model.tie_weights()
    model.save_pretrained(folder)
    _tokenizer(VOCABULARY).save_pretrained(folder)
    return model
