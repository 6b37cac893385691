"""Decoder layers of Llama's and Gemma's kinds with their products fused, to train and to read prompts on a GPU.

A layer of transformers with PEFT's adapters runs seven frozen products, fourteen thin ones and some thirty
memory-bound operations, and keeps nearly every result of theirs for the backward pass. `FusedLayer` computes the same
function on packed rows with

- one product for query, key and value, and one for gate and up, adapters included (see `stages.layers.linear_group`);
- a backward pass that computes norms and the activation again instead of keeping them;
- one kernel for each element-wise part.

What a family has of its own, such as norms after attention and MLP, is data: see `stages.layers.layer_spec`.

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
from stages.layers.layer_spec import ACTIVATIONS, LayerSpec, Norm, activation_of, read_spec, stands_alone
from stages.layers.linear_group import DenseGroup, Group, Groups
from stages.layers.lora_linear import LoraLinear
from stages.layers.packed_attention import Rows, attend, is_flash


def can_fuse(model: PreTrainedModel) -> bool:
    """Whether the decoder layers of a model that has its adapters can be fused: all are plain LoRA, on every layer.

    Args:
        model: of a family whose layers are attention and a gated MLP with norms, and rotate halves of heads.
    """
    config = model.config
    known = activation_of(config) in ACTIVATIONS and not config.attention_dropout
    return known and all(stands_alone(layer) and _is_plain(layer) for layer in _layers(model))


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


def can_be_graphed(model: PreTrainedModel) -> bool:
    """Whether a CUDA graph can hold the layers: what they do depends on shapes alone, and nothing is kept between them.

    Not so where attention looks at where rows lie, and where quantized weights that were unpacked last are reused.
    """
    layers = _layers(model)
    return all(
        isinstance(layer, FusedLayer)
        and all(isinstance(group, DenseGroup) for group in layer.groups)
        and layer.spec.softcap is None
        and is_flash(model.device, model.dtype, layer.spec.heads.size)
        for layer in layers
    )


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
        isinstance(linear, LoraLinear) and isinstance(linear.lora_dropout["default"], nn.Identity)
        for linear in linears
        if linear is not None
    )


class FusedLayer(nn.Module):
    """A decoder layer on packed rows; anything else, such as a decoding step, goes through the layer it is made of."""

    def __init__(self, layer: Any, groups: Groups) -> None:
        super().__init__()
        for name, module in layer.named_children():
            setattr(self, name, module)
        for name, buffer in layer.named_buffers(recurse=False):
            self.register_buffer(name, buffer)
        # In a tuple it is no submodule: its own are already those of this layer.
        self._plain = (layer,)
        attention, mlp = layer.self_attn, layer.mlp
        self.spec = read_spec(layer)
        projections = (attention.q_proj, attention.k_proj, attention.v_proj)
        self._qkv = groups.make([each for each in projections if each is not None])
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
            return getattr(self.__dict__.get("_plain", (None,))[0], name)

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
        spec = self.spec
        query, key, value, x = _NormThenHeads.apply(x, cos, sin, spec, self._qkv, *self._qkv.parameters())  # type: ignore[no-untyped-call]
        if cache is not None:
            attention: Any = self.self_attn
            heads_first = (key.transpose(0, 1)[None], value.transpose(0, 1)[None])
            key, value = (held[0].transpose(0, 1) for held in cache.update(*heads_first, attention.layer_idx))
        attended = attend(
            query, key, value, rows, scaling=spec.scaling, sliding_window=spec.window, softcap=spec.softcap
        )
        x = _LinearThenAdd.apply(  # type: ignore[no-untyped-call]
            attended.flatten(1), x, self._out, spec.after_attention, *self._out.parameters()
        )
        output: Tensor = _GatedMlp.apply(  # type: ignore[no-untyped-call]
            x, spec, self._gate_up, self._down, *self._gate_up.parameters(), *self._down.parameters()
        )
        return output if spec.output_scale is None else output * spec.output_scale


class _NormThenHeads(torch.autograd.Function):
    """Query, key and value of the normed x, T x heads x size each, and x, so that its residual's gradient comes too."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, cos: Tensor, sin: Tensor, spec: LayerSpec, group: Group, *adapters: Tensor
    ) -> tuple[Tensor, ...]:
        qkv, thin = group.forward(_normed(x, spec.before_attention, group))
        made = spec.heads.made
        out = x.new_empty(len(x), sum(made))
        functions_for(x).heads(qkv, spec.heads, cos, sin, out)
        ctx.save_for_backward(x, thin, cos, sin, qkv if spec.heads.normed else None)
        ctx.spec, ctx.group = spec, group
        return *(part.unflatten(-1, (-1, spec.heads.size)) for part in out.split(made, dim=-1)), x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *outer: Tensor) -> tuple[Tensor | None, ...]:
        x, thin, cos, sin, qkv = ctx.saved_tensors
        heads, group = ctx.spec.heads, ctx.group
        wide = x.new_empty(len(x), sum(heads.made)) if heads.keys_are_values else group.new_output_gradient(x)
        made = wide[:, : sum(heads.made)]
        functions_for(x).heads_backward(outer[:3], qkv, heads, cos, sin, made)
        if heads.keys_are_values:
            _, for_keys, for_values = made.split(heads.made, dim=-1)
            for_keys.add_(for_values)
            wide = group.widen(made[:, : group.height])
        dx, gradients = _normed_backward(x, ctx.spec.before_attention, group, thin, wide, outer[3])
        return dx, None, None, None, None, *gradients


class _LinearThenAdd(torch.autograd.Function):
    """The group's output for x, normed where there is a norm, plus the residual."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, residual: Tensor, group: Group, norm: Norm | None, *adapters: Tensor) -> Tensor:
        y, thin = group.forward(group.widen_input(x))
        ctx.save_for_backward(x, thin, None if norm is None else y)
        ctx.group, ctx.norm = group, norm
        return _added(y, norm, residual)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, thin, y = ctx.saved_tensors
        dx, gradients = ctx.group.backward(x, thin, _added_backward(y, ctx.norm, ctx.group, dy))
        return dx, dy, None, None, *gradients


class _GatedMlp(torch.autograd.Function):
    """x plus the gated MLP of the normed x. Its inner results before activation and norm are kept, no others."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, spec: LayerSpec, gate_up: Group, down: Group, *adapters: Tensor) -> Tensor:
        hidden, thin = gate_up.forward(_normed(x, spec.before_mlp, gate_up))
        active = down.new_input(x)
        functions_for(x).gated(hidden, spec.activation, active[:, : down.width])
        y, down_thin = down.forward(active)
        ctx.save_for_backward(x, hidden, thin, down_thin, None if spec.after_mlp is None else y)
        ctx.spec, ctx.gate_up, ctx.down = spec, gate_up, down
        return _added(y, spec.after_mlp, x)

    @staticmethod
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, hidden, thin, down_thin, y = ctx.saved_tensors
        spec, gate_up, down = ctx.spec, ctx.gate_up, ctx.down
        wide = _added_backward(y, spec.after_mlp, down, dy)
        d_active, d_thin = down.input_gradient(wide)
        active = torch.empty_like(d_active)
        d_hidden = gate_up.new_output_gradient(x)
        functions_for(x).gated_backward(hidden, spec.activation, d_active, active, d_hidden[:, : gate_up.height])
        for_down = down.adapter_gradients(active, down_thin, wide, d_thin)
        dx, for_gate_up = _normed_backward(x, spec.before_mlp, gate_up, thin, d_hidden, dy)
        return dx, None, None, None, *for_gate_up, *for_down


def _normed(x: Tensor, norm: Norm, group: Group) -> Tensor:
    """The norm of x as a group takes it."""
    normed = group.new_input(x)
    functions_for(x).rms_norm(x, norm.weight, norm.epsilon, normed[:, : group.width])
    return normed


def _normed_backward(
    x: Tensor, norm: Norm, group: Group, thin: Tensor, dy: Tensor, residual: Tensor
) -> tuple[Tensor, list[Tensor]]:
    """The gradients of x and of the group's adapters; `residual` is what reaches x beside the norm."""
    kernels = functions_for(x)
    normed, dx = torch.empty_like(x), torch.empty_like(x)
    kernels.rms_norm(x, norm.weight, norm.epsilon, normed)
    d_normed, gradients = group.backward(normed, thin, dy)
    kernels.rms_norm_backward(x, norm.weight, norm.epsilon, d_normed, residual, dx)
    return dx, gradients


def _added(y: Tensor, norm: Norm | None, residual: Tensor) -> Tensor:
    """A group's output, normed where there is a norm, plus the residual."""
    if norm is None:
        return y.add_(residual)
    added: Tensor = functions_for(y).rms_norm_add(y, norm.weight, norm.epsilon, residual)
    return added


def _added_backward(y: Tensor | None, norm: Norm | None, group: Group, dy: Tensor) -> Tensor:
    """The gradient of a group's output as its methods take it, from that of `_added`."""
    if norm is None:
        return group.widen(dy)
    wide = group.new_output_gradient(dy)
    functions_for(dy).rms_norm_backward(y, norm.weight, norm.epsilon, dy, None, wide[:, : group.height])
    return wide
