"""Decoder layers of the Llama family with their products fused, for training and for reading prompts on a GPU.

A layer of transformers with PEFT's adapters runs seven frozen products, fourteen thin ones and some thirty
memory-bound operations, and keeps nearly every result of theirs for the backward pass. `FusedLayer` computes the same
function on packed rows with

- one product for query, key and value, and one for gate and up, adapters included (see `stages.layers.linear_group`);
- a backward pass that computes norms and the activation again instead of keeping them;
- one kernel for each element-wise part.

The modules of the layer stay what and where they are, so an adapter is saved, loaded and merged as ever.
"""

from __future__ import annotations

from typing import Any

import torch
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint
from transformers import Cache, PreTrainedModel

from stages.layers.elementwise import functions_for
from stages.layers.linear_group import Group, Groups
from stages.layers.lora_linear import LoraLinear
from stages.layers.packed_attention import Rows, attend


def can_fuse(model: PreTrainedModel) -> bool:
    """Whether the decoder layers of a model that has its adapters can be fused: all are plain LoRA, on every layer.

    Args:
        model: of a family whose layers are norm, attention, norm and gated MLP, and rotate halves of heads.
    """
    config = model.config
    return config.hidden_act == "silu" and not config.attention_dropout and all(map(_is_plain, _layers(model)))


def fuse(model: PreTrainedModel, *, fp8: bool = False) -> None:
    """Put a `FusedLayer` in the place of every decoder layer; with `fp8`, frozen products are taken in 8 bits."""
    groups = Groups(fp8)
    layers = _layers(model)
    for index, layer in enumerate(layers):
        layers[index] = FusedLayer(layer, groups)


def fuse_to_read(model: PreTrainedModel) -> None:
    """Let a model with its adapter read prompts through fused layers, where it can (see `can_fuse`) and is on a GPU."""
    if isinstance(model, PeftModel) and model.device.type == "cuda" and can_fuse(model.get_base_model()):
        fuse(model.get_base_model())
        refresh(model.get_base_model())
        torch.cuda.empty_cache()  # the weights lie elsewhere now


def refresh(model: PreTrainedModel) -> None:
    """Let fused layers take over what an optimizer step or a checkpoint has made of the adapters."""
    for layer in _layers(model):
        if isinstance(layer, FusedLayer):
            for group in layer.groups:
                group.refresh()


def _layers(model: PreTrainedModel) -> nn.ModuleList:
    layers: nn.ModuleList = model.base_model.layers
    return layers


def _is_plain(layer: Any) -> bool:
    linears = [getattr(layer.self_attn, name) for name in ("q_proj", "k_proj", "v_proj", "o_proj")]
    linears += [getattr(layer.mlp, name) for name in ("gate_proj", "up_proj", "down_proj")]
    return all(
        isinstance(linear, LoraLinear) and isinstance(linear.lora_dropout["default"], nn.Identity) for linear in linears
    )


class FusedLayer(nn.Module):
    """A decoder layer on packed rows; anything else, such as a decoding step, goes through the layer it is made of."""

    def __init__(self, layer: Any, groups: Groups) -> None:
        super().__init__()
        for name, module in layer.named_children():
            setattr(self, name, module)
        # In a tuple it is no submodule: its own are already those of this layer.
        self._plain = (layer,)
        attention, mlp = layer.self_attn, layer.mlp
        self._qkv = groups.make((attention.q_proj, attention.k_proj, attention.v_proj))
        self._out = groups.make((attention.o_proj,))
        self._gate_up = groups.make((mlp.gate_proj, mlp.up_proj))
        self._down = groups.make((mlp.down_proj,))
        self.groups = (self._qkv, self._out, self._gate_up, self._down)
        self.gradient_checkpointing = False

    def __getattr__(self, name: str) -> Any:
        """What a model asks of its layers beside calling them, such as their kind of attention."""
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["_plain"][0], name)

    def forward(self, hidden_states: Tensor, **kwargs: Any) -> Tensor:
        """1 x T x width in and out; where rows lie say `cu_seq_lens_q` and its like."""
        cache = kwargs.get("past_key_values")
        if "cu_seq_lens_q" not in kwargs or not self._stands_for_plain(reading=cache is not None):
            plain: Tensor = self._plain[0](hidden_states, **kwargs)
            return plain
        cos, sin = kwargs["position_embeddings"]
        names = ("cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k")
        rows = Rows(*(kwargs[name] for name in names))
        arguments = (hidden_states[0], cos[0], sin[0], rows, cache)
        if self.gradient_checkpointing and self.training:
            output: Tensor = checkpoint(self._run, *arguments, use_reentrant=False, preserve_rng_state=False)
        else:
            output = self._run(*arguments)
        return output[None]

    def _stands_for_plain(self, *, reading: bool) -> bool:
        """Not while another adapter is in use, or none; and what is generated is not rounded to 8 bits."""
        return self._qkv.layers[0].adds_default() and not (reading and self._qkv.rounds)

    def _run(self, x: Tensor, cos: Tensor, sin: Tensor, rows: Rows, cache: Cache | None) -> Tensor:
        attention: Any = self.self_attn
        norm: Any = self.input_layernorm
        mlp_norm: Any = self.post_attention_layernorm
        qkv, x = _NormThenLinear.apply(  # type: ignore[no-untyped-call]
            x, norm.weight, norm.variance_epsilon, self._qkv, *self._qkv.parameters()
        )
        if hasattr(attention, "q_norm"):
            query, key, value = (
                part.unflatten(-1, (-1, attention.head_dim)) for part in qkv.split(self._qkv.sizes, dim=-1)
            )
            qkv = torch.cat([part.flatten(1) for part in (attention.q_norm(query), attention.k_norm(key), value)], -1)
        query, key, value = _Rotate.apply(qkv, cos, sin, self._qkv.sizes, attention.head_dim)  # type: ignore[no-untyped-call]
        if cache is not None:
            heads_first = (key.transpose(0, 1)[None], value.transpose(0, 1)[None])
            key, value = (held[0].transpose(0, 1) for held in cache.update(*heads_first, attention.layer_idx))
        # Mistral's attention looks it up in the configuration; that of others has its layer's own, or none.
        held_by = attention if hasattr(attention, "sliding_window") else attention.config
        window = getattr(held_by, "sliding_window", None)
        attended = attend(query, key, value, rows, scaling=attention.scaling, sliding_window=window)
        x = _LinearThenAdd.apply(attended.flatten(1), x, self._out, *self._out.parameters())  # type: ignore[no-untyped-call]
        output: Tensor = _GatedMlp.apply(  # type: ignore[no-untyped-call]
            x,
            mlp_norm.weight,
            mlp_norm.variance_epsilon,
            self._gate_up,
            self._down,
            *self._gate_up.parameters(),
            *self._down.parameters(),
        )
        return output


class _NormThenLinear(torch.autograd.Function):
    """The group's outputs for the normed x, and x itself, so that its gradient of the residual comes here too."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, epsilon: float, group: Group, *adapters: Tensor
    ) -> tuple[Tensor, Tensor]:
        normed = group.new_input(x)
        functions_for(x).rms_norm(x, weight, epsilon, normed[:, : group.width])
        y, thin = group.forward(normed)
        ctx.save_for_backward(x, weight, thin)
        ctx.epsilon, ctx.group = epsilon, group
        return y, x.view_as(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor, residual: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, thin = ctx.saved_tensors
        normed = torch.empty_like(x)
        functions_for(x).rms_norm(x, weight, ctx.epsilon, normed)
        d_normed, gradients = ctx.group.backward(normed, thin, ctx.group.widen(dy))
        dx = functions_for(x).rms_norm_backward(x, weight, ctx.epsilon, d_normed, residual)
        return dx, None, None, None, *gradients


class _Rotate(torch.autograd.Function):
    """Query and key, rotated, and value: T x heads x head size each."""

    @staticmethod
    def forward(
        ctx: Any, qkv: Tensor, cos: Tensor, sin: Tensor, sizes: list[int], head_dim: int
    ) -> tuple[Tensor, Tensor, Tensor]:
        ctx.save_for_backward(cos, sin)
        ctx.sizes = sizes
        out = torch.empty_like(qkv)
        query, key, value = qkv.split(sizes, dim=-1)
        rotated = out.split(sizes, dim=-1)
        functions_for(qkv).rotate(query.unflatten(-1, (-1, head_dim)), cos, sin, rotated[0])
        functions_for(qkv).rotate(key.unflatten(-1, (-1, head_dim)), cos, sin, rotated[1])
        functions_for(qkv).copy(value, rotated[2])
        heads = [part.unflatten(-1, (-1, head_dim)) for part in rotated]
        return heads[0], heads[1], heads[2]

    @staticmethod
    def backward(ctx: Any, d_query: Tensor, d_key: Tensor, d_value: Tensor) -> tuple[Tensor | None, ...]:
        cos, sin = ctx.saved_tensors
        d_qkv = d_query.new_empty(len(d_query), sum(ctx.sizes))
        parts = d_qkv.split(ctx.sizes, dim=-1)
        functions_for(d_query).rotate(d_query, cos, sin, parts[0], back=True)
        functions_for(d_query).rotate(d_key, cos, sin, parts[1], back=True)
        functions_for(d_query).copy(d_value.flatten(1), parts[2])
        return d_qkv, None, None, None, None


class _LinearThenAdd(torch.autograd.Function):
    """The group's output for x, plus the residual."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, group: Group, *adapters: Tensor) -> Tensor:
        y, thin = group.forward(group.widen_input(x))
        ctx.save_for_backward(x, thin)
        ctx.group = group
        return y.add_(residual)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, thin = ctx.saved_tensors
        dx, gradients = ctx.group.backward(x, thin, ctx.group.widen(dy))
        return dx, dy, None, *gradients


class _GatedMlp(torch.autograd.Function):
    """x plus the gated MLP of the normed x. Of its inner results only the one before the activation is kept."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, epsilon: float, gate_up: Group, down: Group, *adapters: Tensor
    ) -> Tensor:
        normed = gate_up.new_input(x)
        functions_for(x).rms_norm(x, weight, epsilon, normed[:, : gate_up.width])
        hidden, thin = gate_up.forward(normed)
        active = down.new_input(x)
        functions_for(x).gated(hidden, active[:, : down.width])
        y, down_thin = down.forward(active)
        ctx.save_for_backward(x, weight, hidden, thin, down_thin)
        ctx.epsilon, ctx.gate_up, ctx.down = epsilon, gate_up, down
        return y.add_(x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, hidden, thin, down_thin = ctx.saved_tensors
        kernels, gate_up, down = functions_for(x), ctx.gate_up, ctx.down
        wide = down.widen(dy)
        d_active, d_thin = down.input_gradient(wide)
        active = torch.empty_like(d_active)
        d_hidden = gate_up.new_output_gradient(x)
        kernels.gated_backward(hidden, d_active, active, d_hidden[:, : gate_up.height])
        for_down = down.adapter_gradients(active, down_thin, wide, d_thin)
        normed = torch.empty_like(x)
        kernels.rms_norm(x, weight, ctx.epsilon, normed)
        d_normed, for_gate_up = gate_up.backward(normed, thin, d_hidden)
        dx = kernels.rms_norm_backward(x, weight, ctx.epsilon, d_normed, dy)
        return dx, None, None, None, None, *for_gate_up, *for_down
