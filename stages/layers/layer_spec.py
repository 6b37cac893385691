"""What a decoder layer of transformers is made of, as plain values: all that `FusedLayer` knows of its family."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedConfig

ACTIVATIONS = ("silu", "gelu_pytorch_tanh")
"""Of the gate, as transformers calls them."""


@dataclass(frozen=True)
class Norm:
    """A root mean square norm."""

    weight: Tensor
    """What rows of unit size are scaled by: in the compute dtype, rounded before, as in Llama; in float32, rounded
    after, as in Gemma."""
    epsilon: float


@dataclass(frozen=True)
class LayerSpec:
    """Attention and a gated MLP, each with a norm before and perhaps one after, whose outputs are added up."""

    before_attention: Norm
    after_attention: Norm | None
    before_mlp: Norm
    after_mlp: Norm | None
    head_dim: int
    head_norms: tuple[Norm | None, Norm | None, Norm | None]
    """Over each head of query, key and value."""
    keys_are_values: bool
    """Whether values are what keys were before their norm, as in some layers of Gemma 4."""
    activation: str
    scaling: float
    window: int | None
    softcap: float | None
    output_scale: Tensor | None
    """What the layer's whole output is multiplied by."""


def activation_of(config: PreTrainedConfig) -> str:
    """The activation of a model's gates; the Gemmas have it under a name of their own."""
    name: str = getattr(config, "hidden_activation", None) or config.hidden_act
    return name


def read_spec(layer: Any) -> LayerSpec:
    """What a decoder layer is made of, of a family that is marked as `fused`."""
    attention = layer.self_attn
    after = hasattr(layer, "pre_feedforward_layernorm")
    # Mistral's attention looks it up in the configuration; that of others has its layer's own, or none.
    held_by = attention if hasattr(attention, "sliding_window") else attention.config
    return LayerSpec(
        before_attention=_norm(layer.input_layernorm),
        after_attention=_norm(layer.post_attention_layernorm) if after else None,
        before_mlp=_norm(layer.pre_feedforward_layernorm if after else layer.post_attention_layernorm),
        after_mlp=_norm(layer.post_feedforward_layernorm) if after else None,
        head_dim=attention.head_dim,
        head_norms=(_head_norm(attention, "q"), _head_norm(attention, "k"), _head_norm(attention, "v")),
        keys_are_values=attention.v_proj is None,
        activation=activation_of(attention.config),
        scaling=attention.scaling,
        window=getattr(held_by, "sliding_window", None),
        softcap=getattr(attention, "attn_logit_softcapping", None),
        output_scale=getattr(layer, "layer_scalar", None),
    )


def stands_alone(layer: Any) -> bool:
    """Whether a layer reads and writes hidden states alone, and has one MLP.

    Some of Gemma 4's have experts, read embeddings of their own, or hand on their keys and values to later layers.
    """
    attention = layer.self_attn
    more = [getattr(layer, name, None) for name in ("enable_moe_block", "hidden_size_per_layer_input")]
    shares = [getattr(attention, name, None) for name in ("is_kv_shared_layer", "store_full_length_kv")]
    return not any(more + shares)


def _head_norm(attention: Any, part: str) -> Norm | None:
    module = getattr(attention, f"{part}_norm", None)
    return None if module is None else _norm(module, attention)


def _norm(module: Any, within: Any = None) -> Norm:
    if hasattr(module, "variance_epsilon"):
        return Norm(module.weight.detach(), module.variance_epsilon)
    if not hasattr(module, "with_scale"):
        return Norm(1 + module.weight.detach().float(), module.eps)
    if module.with_scale:
        return Norm(module.weight.detach().float(), module.eps)
    return Norm(torch.ones(within.head_dim, device=within.o_proj.weight.device), module.eps)
