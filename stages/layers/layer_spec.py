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
class Heads:
    """How query, key and value become heads."""

    counts: tuple[int, int, int]
    """Heads of query, key and value."""
    size: int
    normed: int
    """How many of the three are normed, head by head: none, query and key, or all."""
    weights: Tensor | None
    """Of their norms, 3 x size, as `Norm.weight`; of what is not normed, ones."""
    epsilon: float
    keys_are_values: bool
    """Whether values are what keys were before norm and rotation, as in some layers of Gemma 4."""

    @property
    def given(self) -> list[int]:
        """The columns of each part that projections give."""
        return [count * self.size for count in self.counts[: 2 if self.keys_are_values else 3]]

    @property
    def made(self) -> list[int]:
        """The columns of query, key and value."""
        return [count * self.size for count in self.counts]


@dataclass(frozen=True)
class LayerSpec:
    """Attention and a gated MLP, each with a norm before and perhaps one after, whose outputs are added up."""

    before_attention: Norm
    after_attention: Norm | None
    before_mlp: Norm
    after_mlp: Norm | None
    heads: Heads
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
        heads=_heads(attention),
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


def _heads(attention: Any) -> Heads:
    size, shared = attention.head_dim, attention.v_proj is None
    query, key = attention.q_proj.out_features // size, attention.k_proj.out_features // size
    norms = [_norm(getattr(attention, name)) for name in ("q_norm", "k_norm") if hasattr(attention, name)]
    weights = [norm.weight for norm in norms]
    return Heads(
        counts=(query, key, key),
        size=size,
        normed=3 if hasattr(attention, "v_norm") else len(norms),
        # The norm of values, which Gemma 4 has, scales nothing.
        weights=torch.stack([*weights, torch.ones_like(weights[0])]) if weights else None,
        epsilon=norms[0].epsilon if norms else 0.0,
        keys_are_values=shared,
    )


def _norm(module: Any) -> Norm:
    if hasattr(module, "variance_epsilon"):
        return Norm(module.weight.detach(), module.variance_epsilon)
    if not hasattr(module, "with_scale"):
        return Norm(1 + module.weight.detach().float(), module.eps)
    return Norm(module.weight.detach().float(), module.eps)
