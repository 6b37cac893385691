"""Fused layers compute what those of transformers do, on rows packed or alone."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from peft import LoraConfig, PeftModel, get_peft_model
from torch.nn.functional import cross_entropy
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedConfig, set_seed

from stages.engines.prefill import Prompts, read_prefix, read_prompts
from stages.engines.slot_cache import SlotCache
from stages.layers.fused_layer import FusedLayer, can_fuse, fuse, fuse_to_read, refresh
from stages.layers.linear_group import Groups, to_fp8
from stages.layers.lora_linear import use_lora_linear
from stages.layers.packed_attention import PACKED, use_attention
from stages.layers.packed_rows import TrainingRow, pack
from stages.models.families import family_of
from stages.models.load import has_fp8

SHAPE = {
    "vocab_size": 512, "hidden_size": 64, "intermediate_size": 160, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 16,
}  # fmt: skip
MIXED: dict[str, Any] = {
    "sliding_window": 8,
    "layer_types": ["full_attention", "sliding_attention", "full_attention"],
    "final_logit_softcapping": None,
}
FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("llama", {}),
    "qwen2": ("qwen2", {}),
    "qwen2 with a window": ("qwen2", {"use_sliding_window": True, "sliding_window": 8, "max_window_layers": 1}),
    "qwen3": ("qwen3", {}),
    "gemma": ("gemma", {}),
    "gemma2": ("gemma2", {**MIXED, "query_pre_attn_scalar": 8, "attn_logit_softcapping": 1.0}),
    "gemma3": ("gemma3_text", {**MIXED, "query_pre_attn_scalar": 64}),
    "gemma4": ("gemma4_unified_text", {**MIXED, "global_head_dim": 32, "attention_k_eq_v": True}),
}
CONFIGS = [AutoConfig.for_model(kind, **SHAPE | settings) for kind, settings in FAMILIES.values()]


def rows() -> list[TrainingRow]:
    generator = torch.Generator().manual_seed(1)

    def tokens(n: int) -> list[int]:
        ids: list[int] = torch.randint(0, 512, (n,), generator=generator).tolist()
        return ids

    return [
        TrainingRow(tokens(prompt), tokens(completion)) for prompt, completion in [(5, 3), (20, 7), (1, 1), (33, 12)]
    ]


def adapted(config: PreTrainedConfig, device: str = "cpu", **lora: Any) -> PeftModel:
    set_seed(0)
    dtype = torch.float32 if device == "cpu" else torch.bfloat16
    attention = family_of(config).attention
    model = AutoModelForCausalLM.from_config(config, dtype=dtype, attn_implementation=attention)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "norm" in name:
                weight += 0.1 * torch.randn(weight.shape, generator=generator)
            if "q_norm" in name:
                weight *= 0.25  # Gemma 4 divides scores by nothing: bfloat16 alone would change all.
    model.to(device)
    settings = {"r": 4, "lora_alpha": 12, "target_modules": "all-linear", "init_lora_weights": False, **lora}
    return get_peft_model(model, use_lora_linear(LoraConfig(**settings, task_type="CAUSAL_LM"))).train()


def one_by_one(model: PeftModel) -> torch.Tensor:
    """The loss of the rows as transformers computes it, each alone."""
    losses = []
    for row in rows():
        logits = model(input_ids=torch.tensor([row.input_ids], device=model.device)).logits[0].float()
        targets = torch.tensor(row.completion_ids, device=model.device)
        losses.append(cross_entropy(logits[len(row.prompt_ids) - 1 : -1], targets, reduction="sum"))
    return torch.stack(losses).sum()


def packed(model: PeftModel) -> torch.Tensor:
    together = pack(rows(), model.device)
    base = model.get_base_model()
    hidden = base.base_model(**together.inputs, use_cache=False).last_hidden_state[0, together.positions]
    return cross_entropy(base.lm_head(hidden).float(), together.targets, reduction="sum")


def gradients(model: PeftModel, loss: torch.Tensor) -> list[torch.Tensor]:
    model.zero_grad()
    torch.autograd.backward([loss])
    return [parameter.grad.clone() for parameter in model.parameters() if parameter.grad is not None]


def assert_same(found: list[torch.Tensor], expected: list[torch.Tensor]) -> None:
    """Equal to float32's precision, measured by the size of each; transformers' own are off by up to 1.7e-4."""
    for one, other in zip(found, expected, strict=True):
        assert (one - other).norm() <= 3e-4 * other.norm()


@pytest.mark.parametrize("config", CONFIGS, ids=list(FAMILIES))
@pytest.mark.parametrize("lora", [{}, {"rank_pattern": {"q_proj": 2, "up_proj": 8}, "use_rslora": True}])
def test_loss_and_gradients(config: PreTrainedConfig, lora: dict[str, Any]) -> None:
    model = adapted(config, **lora)
    base = model.get_base_model()
    names = sorted(model.state_dict())
    expected = one_by_one(model)
    expected_gradients = gradients(model, expected)
    use_attention(base, PACKED)
    plain = packed(model)
    torch.testing.assert_close(plain, expected)
    assert_same(gradients(model, plain), expected_gradients)

    assert can_fuse(base)
    fuse(base)
    refresh(base)
    for recomputed in (0, 2):
        for index, layer in enumerate(base.model.layers):
            assert isinstance(layer, FusedLayer)
            layer.gradient_checkpointing = index < recomputed
        fused = packed(model)
        torch.testing.assert_close(fused, expected)
        assert_same(gradients(model, fused), expected_gradients)
    # The adapter is where it was, and generation goes through the layers of transformers.
    assert sorted(model.state_dict()) == names
    use_attention(base, family_of(base.config).attention)
    torch.testing.assert_close(one_by_one(model), expected)


@pytest.mark.parametrize("config", CONFIGS, ids=list(FAMILIES))
@pytest.mark.parametrize("shared", [0, 5, 30])
def test_prompts_are_read_as_transformers_reads_each_alone(config: PreTrainedConfig, shared: int) -> None:
    """With a prefix and without, by either kind of layer, and without the adapter though the fused ones know it."""
    model = adapted(config).eval()
    base = model.get_base_model()
    beginning = (rows()[-1].input_ids * 2)[:shared]
    prompts = [beginning + row.input_ids for row in rows()]
    with torch.no_grad():
        alone = {ids: model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in map(tuple, prompts)}
        with model.disable_adapter():
            bare = {ids: model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in map(tuple, prompts)}

    def read() -> Prompts:
        return read_prompts(model, prompts, read_prefix(model, beginning), room=4)

    def assert_logits(expected: dict[tuple[int, ...], torch.Tensor]) -> None:
        assert_same(list(read().logits), [expected[tuple(ids)] for ids in prompts])

    plain = read()
    assert_logits(alone)
    fuse(base)
    refresh(base)
    assert_logits(alone)
    fused_cache, plain_cache = read().cache, plain.cache
    assert isinstance(fused_cache, SlotCache) and isinstance(plain_cache, SlotCache)
    assert_same(fused_cache.keys + fused_cache.values, plain_cache.keys + plain_cache.values)
    with model.disable_adapter():
        assert_logits(bare)
    model.add_adapter("other", LoraConfig(r=4, target_modules="all-linear", init_lora_weights=False))
    model.set_adapter("other")
    with torch.no_grad():
        assert_logits({ids: model(input_ids=torch.tensor([ids])).logits[0, -1] for ids in map(tuple, prompts)})


def test_prompts_are_not_read_in_8_bits() -> None:
    model = adapted(CONFIGS[0]).to(torch.bfloat16).eval()
    prompts = [row.input_ids for row in rows()]
    before = read_prompts(model, prompts, read_prefix(model, []), room=4)
    fuse(model.get_base_model(), fp8=True)
    refresh(model.get_base_model())
    assert torch.equal(read_prompts(model, prompts, read_prefix(model, []), room=4).logits, before.logits)


@pytest.mark.parametrize("lora", [{"use_dora": True}, {"lora_dropout": 0.1}, {"target_modules": ["q_proj", "v_proj"]}])
def test_layers_with_other_adapters_stay_as_they_are(lora: dict[str, Any]) -> None:
    assert not can_fuse(adapted(CONFIGS[0], **lora).get_base_model())


@pytest.mark.parametrize("config", CONFIGS, ids=list(FAMILIES))
def test_products_in_8_bits_come_near_those_in_bfloat16_and_leave_layers_their_weights(
    config: PreTrainedConfig,
) -> None:
    exact = adapted(config)
    expected = torch.cat([gradient.flatten() for gradient in gradients(exact, one_by_one(exact))])
    model = adapted(config).to(torch.bfloat16)
    base = model.get_base_model()
    loss = one_by_one(model)

    def error(loss: torch.Tensor) -> float:
        found = torch.cat([gradient.flatten().float() for gradient in gradients(model, loss)])
        return float((found - expected).norm() / expected.norm())

    plain = error(loss)
    use_attention(base, PACKED)
    fuse(base, fp8=True)
    refresh(base)
    assert plain < error(packed(model)) < 5 * plain
    use_attention(base, family_of(base.config).attention)
    assert torch.equal(one_by_one(model), loss)


def test_products_in_8_bits_are_those_of_the_rounded_matrices() -> None:
    linear = torch.nn.Linear(64, 48, dtype=torch.bfloat16)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["0"], init_lora_weights=False)
    adapted_linear = get_peft_model(torch.nn.Sequential(linear), use_lora_linear(config)).base_model.model[0]
    group = Groups(fp8=True).make([adapted_linear])
    group.refresh()
    x, dy = torch.randn(7, 64, dtype=torch.bfloat16), torch.randn(7, 48, dtype=torch.bfloat16)

    def rounded(matrix: torch.Tensor) -> torch.Tensor:
        rows, scales = to_fp8(matrix)
        return rows.float() * scales

    with torch.no_grad():
        down, up = (part["default"].weight for part in (adapted_linear.lora_A, adapted_linear.lora_B))
        added = 2 * (x @ down.to(x.dtype).T @ up.to(x.dtype).T)
        y, _ = group.forward(x)
        expected = rounded(x) @ rounded(linear.weight).T + linear.bias + added
        torch.testing.assert_close(y.float(), expected, atol=0.02, rtol=0.02)
        dx, _ = group.input_gradient(dy)
        expected = rounded(dy) @ rounded(linear.weight.T).T + 2 * (dy @ up.to(x.dtype) @ down.to(x.dtype))
        torch.testing.assert_close(dx.float(), expected, atol=0.02, rtol=0.02)


@given(arrays(np.float32, (3, 16), elements=st.floats(-1e4, 1e4, width=32)))
def test_a_row_in_8_bits_is_close_by_its_largest_value(values: np.ndarray) -> None:
    matrix = torch.from_numpy(values)
    rows, scales = to_fp8(matrix)
    assert rows.dtype == torch.float8_e4m3fn
    largest = matrix.abs().amax(1, keepdim=True)
    # Three bits of fraction: an error of a sixteenth of a value, and of the least step for those near zero.
    assert ((rows.float() * scales - matrix).abs() <= matrix.abs() / 16 + largest / 2**17 + 1e-12).all()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("config", CONFIGS, ids=list(FAMILIES))
def test_the_kernels_of_a_gpu_are_as_close_to_float32_as_transformers(config: PreTrainedConfig) -> None:
    exact = adapted(config)
    expected = torch.cat([gradient.flatten() for gradient in gradients(exact, one_by_one(exact))])
    model = adapted(config, "cuda")
    base = model.get_base_model()

    def error(loss: torch.Tensor) -> float:
        found = torch.cat([gradient.flatten().cpu().float() for gradient in gradients(model, loss)])
        return float((found - expected).norm() / expected.norm())

    plain = error(one_by_one(model))
    use_attention(base, PACKED)
    fuse(base)
    refresh(base)
    assert error(packed(model)) < 1.2 * plain


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("config", CONFIGS, ids=list(FAMILIES))
@pytest.mark.parametrize("shared", [0, 5, 30])
def test_a_gpu_reads_prompts_as_close_to_float32_as_transformers(config: PreTrainedConfig, shared: int) -> None:
    beginning = (rows()[-1].input_ids * 2)[:shared]
    prompts = [beginning + row.input_ids for row in rows()]

    @torch.no_grad()
    def alone(model: PeftModel) -> torch.Tensor:
        logits = [model(input_ids=torch.tensor([ids], device=model.device)).logits[0, -1] for ids in prompts]
        return torch.stack(logits).cpu().float()

    expected = alone(adapted(config).eval())
    model = adapted(config, "cuda").eval()

    def error(logits: torch.Tensor) -> float:
        return float((logits.cpu() - expected).norm() / expected.norm())

    plain = error(alone(model))
    assert error(read_prompts(model, prompts, read_prefix(model, beginning), room=4).logits) < 1.5 * plain
    fuse_to_read(model)
    assert error(read_prompts(model, prompts, read_prefix(model, beginning), room=4).logits) < 1.5 * plain


@pytest.mark.skipif(not has_fp8(), reason="needs a GPU of Hopper or later")
def test_the_kernel_of_a_gpu_rounds_to_8_bits_like_the_cpu() -> None:
    matrix = torch.randn(5, 5000, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(0))
    matrix[3] = 0
    for mine, expected in zip(to_fp8(matrix.cuda()), to_fp8(matrix), strict=True):
        torch.testing.assert_close(mine.cpu().float(), expected.float(), rtol=0.07, atol=0)
