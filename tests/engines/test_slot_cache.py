"""Attention over slots."""

from __future__ import annotations

import torch
from transformers import AttentionInterface, LlamaConfig, LlamaForCausalLM

from stages.engines.slot_cache import GROUPED, NEIGHBOURS, grouped_attention


def test_slots_that_are_not_in_use_are_not_read() -> None:
    """Rows of a step, more than attend together, each with garbage behind what it may see."""
    rows, heads, width, slots = 2 * NEIGHBOURS + 3, 4, 8, 40
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(rows, heads, 1, width, generator=generator)
    key = torch.randn(rows, 2, slots, width, generator=generator)
    value = torch.randn(rows, 2, slots, width, generator=generator)
    used = [slots - row for row in range(rows)]
    mask = torch.zeros(rows, 1, 1, slots)
    for row, count in enumerate(used):
        mask[row, ..., count:] = torch.finfo(torch.float32).min
    model = LlamaForCausalLM(
        LlamaConfig(num_hidden_layers=1, num_attention_heads=4, hidden_size=32, intermediate_size=8, vocab_size=8)
    )
    with grouped_attention(model):
        attend = AttentionInterface()[GROUPED]
    whole, _ = attend(model, query, key, value, mask)
    for row in range(rows):
        most = max(used[row - row % NEIGHBOURS : row - row % NEIGHBOURS + NEIGHBOURS])
        key[row, :, most:] = value[row, :, most:] = torch.nan
    found, _ = attend(model, query, key, value, mask, used_slots=used)
    torch.testing.assert_close(found, whole)
