"""Rows that are filled up, and losses that a CUDA graph computes, are learned from as others are."""

from __future__ import annotations

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from transformers import AutoModelForCausalLM, set_seed

from stages.layers.chunked_loss import token_losses
from stages.layers.fused_layer import fuse, refresh
from stages.layers.lora_linear import use_lora_linear
from stages.layers.packed_attention import PACKED, use_attention
from stages.layers.packed_rows import Packed, TrainingRow, pack
from stages.training.graphed_losses import GraphedLosses, Losses, LossesOfTensors, filled, full_shape
from tests.tiny_families import VOCABULARY, text

SHAPES = [[(9, 5), (21, 4), (1, 2)], [(13, 9)], [(30, 3), (4, 4)], [(200, 80)]]
"""Steps of rows, each with the tokens of its prompt and of its completion."""


def packed(step: int, device: str) -> Packed:
    generator = torch.Generator().manual_seed(step)
    rows = []
    for prompt, completion in SHAPES[step]:
        ids = torch.randint(3, VOCABULARY, (prompt + completion,), generator=generator).tolist()
        rows.append(TrainingRow(ids[:prompt], ids[prompt:]))
    return pack(rows, device)


def adapted(device: str) -> tuple[PeftModel, Losses]:
    """A tiny Gemma 3 with fused layers, and what gives its losses."""
    set_seed(0)
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    base = AutoModelForCausalLM.from_config(text("gemma3_text", head_dim=16), dtype=dtype).to(device)
    lora = LoraConfig(r=2, target_modules="all-linear", init_lora_weights=False, task_type="CAUSAL_LM")
    model = get_peft_model(base, use_lora_linear(lora)).train()
    use_attention(base, PACKED)
    fuse(base)
    refresh(base)

    def losses(rows: Packed) -> torch.Tensor:
        hidden = base.base_model(**rows.inputs, use_cache=False).last_hidden_state[0]
        return token_losses(hidden[rows.positions], rows.targets, base.lm_head.weight)

    return model, losses


def gradients(model: PeftModel, losses: torch.Tensor) -> torch.Tensor:
    model.zero_grad()
    torch.autograd.backward([losses.mean()])
    return torch.cat([weight.grad.float().flatten() for weight in model.parameters() if weight.grad is not None])


@pytest.mark.parametrize("step", range(len(SHAPES)))
def test_filled_up_rows_have_the_same_losses_and_gradients(step: int) -> None:
    model, losses = adapted("cpu")
    rows = packed(step, "cpu")
    tokens, predicted, count = full_shape(rows)
    inputs = filled(rows, (tokens, predicted, count))
    assert [len(each.flatten()) for each in inputs] == [tokens, tokens, count + 1, predicted, predicted]
    expected = losses(rows)
    found = LossesOfTensors(model.get_base_model(), losses, tokens)(*inputs)[: len(rows.targets)]
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradients(model, found), gradients(model, expected))


def test_without_a_gpu_there_are_no_graphs() -> None:
    model, losses = adapted("cpu")
    graphed = GraphedLosses(model.get_base_model(), losses)
    for _ in range(3):
        assert torch.equal(graphed(packed(0, "cpu")), losses(packed(0, "cpu")))


def taught(model: PeftModel, losses: Losses, rows: Packed) -> tuple[torch.Tensor, torch.Tensor]:
    """The losses, without what autograd keeps for them, and their gradients: none may be there while one captures."""
    found = losses(rows)
    return found.detach(), gradients(model, found)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_graphs_give_the_losses_and_gradients_of_the_weights_as_they_are() -> None:
    model, losses = adapted("cuda")
    base = model.get_base_model()
    graphed = GraphedLosses(base, losses)
    for step in (0, 1, 2, 3, 0, 3, 1, 2):
        rows = packed(step, "cuda")
        found, found_gradients = taught(model, graphed, rows)
        expected, expected_gradients = taught(model, losses, rows)
        torch.testing.assert_close(found, expected, rtol=1e-2, atol=1e-2)
        assert (found_gradients - expected_gradients).norm() <= 2e-2 * expected_gradients.norm()
        with torch.no_grad():
            for weight in model.parameters():
                if weight.grad is not None:
                    weight -= 1e-2 * weight.grad.sign()
    assert graphed.count == 1
