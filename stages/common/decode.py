"""Runs the searches of a batch, all with one forward pass a step; rows that are done leave the batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from transformers import PreTrainedModel, RepetitionPenaltyLogitsProcessor

from stages.common.prefill import Prompts
from stages.common.search import Beams, Proposal, Search
from stages.common.slots import SlotCache, attention_masks
from stages.common.step import Step, step_for

Watch = Callable[[list[list[int]]], None]
"""Is told after each step what the result may be or begin with."""


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Prompts,
    searches: Sequence[Search],
    repetition_penalty: float = 1.0,
    watch: Watch | None = None,
) -> None:
    """Run one search for each prompt to its end; all are of one kind and width.

    The prompts stay as they were, for other searches.
    """
    alive = list(searches)
    branches = _Branches(model, prompts, alive)
    logits = prompts.logits[:, None]
    while True:
        proposals = _propose(logits, branches, alive, repetition_penalty)
        for search, proposal in zip(alive, proposals, strict=True):
            if not search.done:
                search.advance(proposal)
        if watch is not None:
            watch([ids for search in alive for ids in search.possible()])
        rows = [row for row, search in enumerate(alive) if not search.done]
        if not rows:
            return
        branches.follow(alive)
        if len(rows) <= len(alive) // 2:
            branches.keep(rows)
            alive = [alive[row] for row in rows]
        logits = branches.step(alive)


class _Branches:
    """Where the hypotheses of a batch stand in the cache, and what each may read of it."""

    def __init__(self, model: PreTrainedModel, prompts: Prompts, searches: Sequence[Search]) -> None:
        self.model = model
        self.prompt_ids = prompts.ids
        self.cache: SlotCache = prompts.cache
        self.visible = prompts.readable[:, None]
        self.slot_positions = prompts.positions.clone()
        self.next_position = prompts.positions.max(dim=1).values + 1
        self.next_slot = prompts.width
        self.forward: Step | None = None

    def follow(self, searches: Sequence[Search]) -> None:
        """Let each hypothesis see what the one that it continues saw."""
        width = max(len(search.parents) for search in searches)
        chosen = [[0] * width if search.done else search.parents for search in searches]
        parents = torch.tensor(chosen, device=self.visible.device)
        self.visible = self.visible.gather(1, parents[:, :, None].expand(-1, -1, self.visible.shape[2]))

    def keep(self, rows: list[int]) -> None:
        """Drop the other rows."""
        kept = torch.tensor(rows, device=self.visible.device)
        self.prompt_ids = [self.prompt_ids[row] for row in rows]
        self.forward = None
        self.cache = self.cache.select(kept)
        self.visible = self.visible[kept]
        self.slot_positions = self.slot_positions[kept]
        self.next_position = self.next_position[kept]

    def step(self, searches: Sequence[Search]) -> torch.Tensor:
        """Read the last token of each hypothesis: the logits of what follows, (rows, hypotheses, vocabulary)."""
        device = self.visible.device
        width = self.visible.shape[1]
        read = [[0] * width if search.done else [ids[-1] for ids in search.running] for search in searches]
        tokens = torch.tensor(read, device=device)
        rows = len(searches)
        slots = torch.arange(self.next_slot, self.next_slot + width, device=device)
        self.visible[:, torch.arange(width, device=device), slots] = True
        self.slot_positions[:, slots] = self.next_position[:, None]
        positions = self.next_position[:, None].expand(rows, width)
        masks = attention_masks(self.model.config, self.model.dtype, self.visible, positions, self.slot_positions)
        self.next_slot += width
        self.next_position = self.next_position + 1
        if self.forward is None:
            self.forward = step_for(self.model, self.cache)
        return self.forward(tokens, positions, masks, slots, self.next_slot)


def _propose(
    logits: torch.Tensor, branches: _Branches, searches: Sequence[Search], repetition_penalty: float
) -> list[list[Proposal]]:
    """The best next tokens of each hypothesis; in transformers too, a beam's penalty applies to log probabilities."""
    wanted = max(search.wanted for search in searches)
    beams = isinstance(searches[0], Beams)
    # Of a greedy step only the largest is looked for, which float32 would not change.
    scores = logits if wanted == 1 and repetition_penalty == 1 else logits.float()
    if repetition_penalty != 1:
        written = [
            [*prompt, *ids]
            for prompt, search in zip(branches.prompt_ids, searches, strict=True)
            for ids in (search.running if len(search.running) == logits.shape[1] else [[]] * logits.shape[1])
        ]
        scores = _penalise(scores - _log_sum(scores) if beams else scores, written, repetition_penalty)
    values, ids = scores.max(dim=-1, keepdim=True) if wanted == 1 else scores.topk(min(wanted, scores.shape[-1]))
    if wanted > 2 and not (beams and repetition_penalty != 1):
        values = values - _log_sum(scores)
    return [
        [list(zip(*proposal, strict=True)) for proposal in zip(*row, strict=True)]
        for row in zip(values.tolist(), ids.tolist(), strict=True)
    ]


def _log_sum(logits: torch.Tensor) -> torch.Tensor:
    return logits.logsumexp(dim=-1, keepdim=True)


def _penalise(scores: torch.Tensor, written: list[list[int]], penalty: float) -> torch.Tensor:
    longest = max(map(len, written))
    # A text's own first token pads it: a token counts once, however often it was written.
    ids = torch.tensor([[*text, *text[:1] * (longest - len(text))] for text in written], device=scores.device)
    penalised: torch.Tensor = RepetitionPenaltyLogitsProcessor(penalty)(ids, scores.flatten(0, 1))
    return penalised.view_as(scores)
