"""Base models with random weights in shapes of real ones, for benchmarks of speed and memory."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import bitsandbytes
import torch
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from transformers import (
    AutoModelForCausalLM,
    BitsAndBytesConfig,
    Gemma2Config,
    Gemma3TextConfig,
    LlamaConfig,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    set_seed,
)

from stages.models.families import family_of

SHAPES: dict[str, PreTrainedConfig] = {
    "gemma3-270m": Gemma3TextConfig(
        hidden_size=640,
        intermediate_size=2048,
        num_hidden_layers=18,
        num_attention_heads=4,
        num_key_value_heads=1,
        head_dim=256,
        vocab_size=262144,
        sliding_window=512,
        query_pre_attn_scalar=256,
    ),
    "gemma2-9b": Gemma2Config(
        hidden_size=3584,
        intermediate_size=14336,
        num_hidden_layers=42,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=256,
        vocab_size=256000,
        sliding_window=4096,
        query_pre_attn_scalar=256,
    ),
    "gemma3-12b": Gemma3TextConfig(
        hidden_size=3840,
        intermediate_size=15360,
        num_hidden_layers=48,
        num_attention_heads=16,
        num_key_value_heads=8,
        head_dim=256,
        vocab_size=262208,
        sliding_window=1024,
        query_pre_attn_scalar=256,
    ),
    "solar-10b": LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=48,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=32000,
        max_position_embeddings=4096,
        pad_token_id=0,
    ),
    "llama3-8b": LlamaConfig(
        hidden_size=4096,
        intermediate_size=14336,
        num_hidden_layers=32,
        num_attention_heads=32,
        num_key_value_heads=8,
        vocab_size=128256,
        max_position_embeddings=8192,
    ),
    "qwen2-5-7b": Qwen2Config(
        hidden_size=3584,
        intermediate_size=18944,
        num_hidden_layers=28,
        num_attention_heads=28,
        num_key_value_heads=4,
        vocab_size=152064,
        max_position_embeddings=8192,
    ),
    "qwen3-14b": Qwen3Config(
        hidden_size=5120,
        intermediate_size=17408,
        num_hidden_layers=40,
        num_attention_heads=40,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
        max_position_embeddings=8192,
    ),
    "qwen3-32b": Qwen3Config(
        hidden_size=5120,
        intermediate_size=25600,
        num_hidden_layers=64,
        num_attention_heads=64,
        num_key_value_heads=8,
        head_dim=128,
        vocab_size=151936,
        max_position_embeddings=8192,
    ),
}


def random_model(config: PreTrainedConfig, *, nf4: bool) -> PreTrainedModel:
    """A model in bfloat16, its linear layers in NF4 if asked for; on the GPU if there is one."""
    set_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        model: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=torch.bfloat16, attn_implementation=family_of(config).attention
        )
    if nf4:
        replace_linear(model, torch.nn.Linear, four_bit)
    return model


def save_random_model(config: PreTrainedConfig, folder: Path) -> None:
    """An NF4 checkpoint with a tokenizer of made-up words, for programs that load one."""
    model = random_model(deepcopy(config), nf4=True)
    model.config.quantization_config = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    model.save_pretrained(folder)
    random_tokenizer(config).save_pretrained(folder)


def random_tokenizer(config: PreTrainedConfig) -> PreTrainedTokenizerFast:
    """One of made-up words, as many as the model has."""
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    words = [*special.values(), *(f"w{i}" for i in range(len(special), config.vocab_size))]
    tokenizer = Tokenizer(WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)


def four_bit(linear: torch.nn.Linear) -> bitsandbytes.nn.Linear4bit:
    """The same layer in NF4 with double quantization."""
    small = bitsandbytes.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=torch.bfloat16,
        compress_statistics=True,
        quant_type="nf4",
        device="meta",
    )
    small.weight = bitsandbytes.nn.Params4bit(
        linear.weight.data, requires_grad=False, compress_statistics=True, quant_type="nf4"
    ).to(linear.weight.device)
    small.bias = linear.bias
    return small


def replace_linear(model: PreTrainedModel, kind: type, make: Callable[[Any], torch.nn.Module]) -> None:
    """Replace all linear layers of a kind but the output embedding, one by one."""
    for name, module in list(model.named_modules()):
        if type(module) is kind and module is not model.get_output_embeddings():
            model.set_submodule(name, make(module))
