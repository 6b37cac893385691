"""Prompts and hypotheses side by side in padded rows, over transformers' own cache: for models with recurrent layers.

Such a layer holds one state for all that it has read, which hypotheses cannot share and which has no places that a mask
could hide. So each hypothesis is a row of its own, and a beam that takes another's place takes a copy of its state.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from transformers import Cache, DynamicCache, PreTrainedModel

from stages.engines.search import Search, next_inputs


class PaddedRows:
    """Rows that a model has read, padded on the left.

    Attributes:
        mask: rows x tokens, 1 where a token is no padding.
        positions: of the last token of each row, counted from 0.
        logits: rows x vocabulary, what follows each, in float32.
    """

    def __init__(self, model: PreTrainedModel, prompts: Sequence[Sequence[int]]) -> None:
        longest = max(map(len, prompts))
        # Any id will do for what is hidden.
        ids = torch.tensor([[0] * (longest - len(each)) + list(each) for each in prompts], device=model.device)
        lengths = torch.tensor([len(each) for each in prompts], device=model.device)
        self.mask = (torch.arange(longest, device=model.device) >= longest - lengths[:, None]).long()
        self.positions = lengths - 1
        self.cache: Cache = DynamicCache(config=model.config.get_text_config())
        self.logits = _forward(model, self.cache, ids, self.mask, (self.mask.cumsum(1) - 1).clamp(min=0)).float()

    def copy(self) -> PaddedRows:
        """Another of the same, for another search."""
        return copy.deepcopy(self)

    def repeated(self, times: int) -> PaddedRows:
        """A copy with so many rows for each one."""
        rows = self.copy()
        rows.select(torch.arange(len(self.mask), device=self.mask.device).repeat_interleave(times))
        return rows

    def step(self, model: PreTrainedModel, searches: Sequence[Search]) -> torch.Tensor:
        """Read the last token of each hypothesis: the logits of what follows, (searches, hypotheses, vocabulary)."""
        parents, tokens = next_inputs(searches)
        held = len(self.mask) // len(searches)
        rows = [[row * held + parent for parent in of] for row, of in enumerate(parents)]
        given = torch.tensor([rows, tokens], device=self.mask.device).flatten(1)
        self.select(given[0])
        self.mask = torch.cat([self.mask, self.mask.new_ones(len(self.mask), 1)], dim=1)
        self.positions = self.positions + 1
        logits = _forward(model, self.cache, given[1][:, None], self.mask, self.positions[:, None])
        proposed: torch.Tensor = logits.unflatten(0, (len(searches), len(tokens[0])))
        return proposed

    def keep(self, searches: Sequence[int], of: int) -> None:
        """Drop the rows of all but some of the `of` searches."""
        held = len(self.mask) // of
        rows = [search * held + row for search in searches for row in range(held)]
        self.select(torch.tensor(rows, device=self.mask.device))

    def select(self, rows: torch.Tensor) -> None:
        """Let copies of these rows take the places of all."""
        self.cache.reorder_cache(rows)
        self.mask, self.positions = self.mask[rows], self.positions[rows]


def _forward(
    model: PreTrainedModel, cache: Cache, ids: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor
) -> torch.Tensor:
    output = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=positions,
        past_key_values=cache,
        use_cache=True,
        logits_to_keep=1,
    )
    logits: torch.Tensor = output.logits[:, -1]
    return logits
