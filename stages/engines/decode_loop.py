"""Runs searches, all with one forward pass a step; a prompt that waits takes the place of one that is done."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import cast

import torch
from transformers import PreTrainedModel, RepetitionPenaltyLogitsProcessor

from stages.engines.batches import Limits
from stages.engines.beam_search import BeamSearch
from stages.engines.chains import Samples, draw
from stages.engines.forward_step import Step, step_for
from stages.engines.padded_rows import PaddedRows
from stages.engines.prefill import Prefix, Prompts, read_into, read_prompts
from stages.engines.search import Proposals, Search, filled, next_inputs
from stages.engines.settings import DecodingSettings
from stages.engines.slot_cache import SlotCache, attention_masks
from stages.models.families import reads_packed

PADDED_AT_ONCE = 16_384
"""Prompt tokens that a model which reads no packed rows reads in one forward pass, at most."""
JOIN = 8
"""Prompts are read once an eighth of the places is free: together, as a GPU is fast at, and before many stay empty."""


@torch.inference_mode()
def decode(
    model: PreTrainedModel,
    prompts: Prompts,
    searches: Sequence[Search],
    settings: DecodingSettings,
    *,
    waiting: Iterable[tuple[Sequence[int], Search]] = (),
    watch: Callable[[], None] | None = None,
) -> None:
    """Run one search for each prompt to its end; all are of one kind and width.

    Args:
        settings: those of all searches, which may differ in the length penalty.
        prompts: they stay as they were, for other searches, unless some wait.
        waiting: prompts and their searches that take the places of those that are done; they begin with the same
            prefix, and are no longer than the longest of `prompts`. A model that reads no packed rows has none.
        watch: is called after each step.
    """
    alive = list(searches)
    queue = deque(waiting)
    branches = _PaddedBranches(model, prompts) if isinstance(prompts.cache, PaddedRows) else _Branches(model, prompts)
    _advance(alive, prompts.logits[:, None], prompts.ids, settings)
    while True:
        if watch is not None:
            watch()
        free = [row for row, search in enumerate(alive) if search.done]
        if queue and len(free) * JOIN >= len(alive):
            rows = free[: len(queue)]
            ids, joining = zip(*(queue.popleft() for _ in rows), strict=True)
            for row, search in zip(rows, joining, strict=True):
                alive[row] = search
            _advance(joining, branches.join(rows, ids)[:, None], ids, settings)
            continue
        if len(free) == len(alive):
            return
        if not queue and len(free) * 2 >= len(alive):
            kept = [row for row, search in enumerate(alive) if not search.done]
            branches.keep(kept)
            alive = [alive[row] for row in kept]
        logits = branches.step(alive)
        _advance(alive, logits, branches.prompt_ids, settings)


def decode_in_turn(
    model: PreTrainedModel,
    prompts: Sequence[Sequence[int]],
    searches: Sequence[Search],
    settings: DecodingSettings,
    prefix: Prefix,
    room: int,
    limits: Limits,
    watch: Callable[[], None] | None = None,
) -> None:
    """Run one search for each prompt, as many at once as the limits allow; the others wait.

    Args:
        prompts: their ids, the longest first.
        prefix: what all of them begin with.
        room: tokens that are written after a prompt, all hypotheses together.
    """
    first = limits.at_once(len(prompts[0]) + room)
    if not reads_packed(model.config):
        # Their state is held once for each hypothesis, and prompts are read all at once.
        first = min(first, max(1, PADDED_AT_ONCE // len(prompts[0])))
        for start in range(0, len(prompts), first):
            part = slice(start, start + first)
            decode(model, read_prompts(model, prompts[part], prefix, room), searches[part], settings, watch=watch)
        return
    waiting = zip(prompts[first:], searches[first:], strict=True)
    at_once = read_prompts(model, prompts[:first], prefix, room)
    decode(model, at_once, searches[:first], settings, waiting=waiting, watch=watch)


class _Branches:
    """Where the hypotheses of a batch stand in the cache, and what each may read of it.

    A row's slots hold its prompt, then what is written, the hypotheses of a step side by side.
    """

    def __init__(self, model: PreTrainedModel, prompts: Prompts) -> None:
        self.model = model
        self.prefix = prompts.prefix
        self.prompt_ids: list[Sequence[int]] = list(prompts.ids)
        assert isinstance(prompts.cache, SlotCache)
        self.cache = prompts.cache
        self.steps = [0] * len(prompts.ids)
        """How many each row has taken."""
        rows = len(prompts.ids)
        self.slot_positions = torch.zeros(rows, self.cache.capacity, dtype=torch.long, device=model.device)
        self.visible = torch.zeros(rows, 1, self.cache.capacity, dtype=torch.bool, device=model.device)
        self._show_prompts(range(rows))
        self.forward: Step | None = None

    def join(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        """Let prompts take the places of others: the logits after each."""
        for row, ids in zip(rows, prompts, strict=True):
            self.prompt_ids[row] = ids
            self.steps[row] = 0
        self._show_prompts(rows)
        return read_into(self.model, self.cache, prompts, rows, self.prefix)

    def keep(self, rows: list[int]) -> None:
        """Drop the other rows."""
        kept = torch.tensor(rows, device=self.visible.device)
        self.prompt_ids = [self.prompt_ids[row] for row in rows]
        self.steps = [self.steps[row] for row in rows]
        self.forward = None
        self.cache = self.cache.select(kept)
        self.visible = self.visible[kept]
        self.slot_positions = self.slot_positions[kept]

    def step(self, searches: Sequence[Search]) -> torch.Tensor:
        """Read the last token of each hypothesis: the logits of what follows, (rows, hypotheses, vocabulary)."""
        # A row that is done writes where its next prompt will lie, or what nobody reads.
        parents, tokens = next_inputs(searches)
        width = len(tokens[0])
        positions = [[len(ids) + step] * width for ids, step in zip(self.prompt_ids, self.steps, strict=True)]
        starts = [len(ids) + step * width for ids, step in zip(self.prompt_ids, self.steps, strict=True)]
        slots = [list(range(start, start + width)) for start in starts]
        given = torch.tensor([parents, tokens, positions, slots], device=self.visible.device)
        self._follow(given[0])
        self.visible.scatter_(2, given[3][:, :, None], True)
        self.slot_positions.scatter_(1, given[3], given[2])
        masks = attention_masks(self.model.config, self.model.dtype, self.visible, given[2], self.slot_positions)
        self.steps = [step + (not search.done) for step, search in zip(self.steps, searches, strict=True)]
        if self.forward is None:
            self.forward = step_for(self.model, self.cache)
        return self.forward(given[1], given[2], masks, given[3], [start + width for start in starts])

    def _show_prompts(self, rows: Sequence[int]) -> None:
        places = torch.tensor(list(rows), device=self.visible.device)
        lengths = torch.tensor([len(self.prompt_ids[row]) for row in rows], device=self.visible.device)
        slots = torch.arange(self.cache.capacity, device=self.visible.device)
        self.slot_positions[places] = slots
        self.visible[places] = (slots < lengths[:, None])[:, None]

    def _follow(self, parents: torch.Tensor) -> None:
        """Let each hypothesis see what the one that it continues saw."""
        self.visible = self.visible.gather(1, parents[:, :, None].expand(-1, -1, self.visible.shape[2]))


class _PaddedBranches:
    """The same for a model that reads no packed rows."""

    def __init__(self, model: PreTrainedModel, prompts: Prompts) -> None:
        assert isinstance(prompts.cache, PaddedRows)
        self.model = model
        self.prompt_ids: list[Sequence[int]] = list(prompts.ids)
        self.rows = prompts.cache.copy()

    def join(self, rows: Sequence[int], prompts: Sequence[Sequence[int]]) -> torch.Tensor:
        raise NotImplementedError("prompts of such a model do not wait")

    def keep(self, rows: list[int]) -> None:
        self.rows.keep(rows, len(self.prompt_ids))
        self.prompt_ids = [self.prompt_ids[row] for row in rows]

    def step(self, searches: Sequence[Search]) -> torch.Tensor:
        return self.rows.step(self.model, searches)


def _advance(
    searches: Sequence[Search], logits: torch.Tensor, prompts: Sequence[Sequence[int]], settings: DecodingSettings
) -> None:
    """Let searches that are not done take a step, by the logits after each of their hypotheses or the prompt."""
    proposals = _propose(logits, prompts, searches, settings)
    for search, proposed in zip(searches, proposals, strict=True):
        if not search.done:
            search.advance(proposed)


def _propose(
    logits: torch.Tensor, prompts: Sequence[Sequence[int]], searches: Sequence[Search], settings: DecodingSettings
) -> list[Proposals]:
    """The best next tokens of each hypothesis, or the one that was drawn for it.

    In transformers too, a beam's penalty applies to log probabilities.
    """
    wanted = max(search.wanted for search in searches)
    beams = isinstance(searches[0], BeamSearch)
    # Of a greedy step only the largest is looked for, which float32 would not change.
    scores = logits if wanted == 1 and settings.repetition_penalty == 1 else logits.float()
    if settings.repetition_penalty != 1:
        written = [
            [*prompt, *ids]
            for prompt, search in zip(prompts, searches, strict=True)
            for ids in filled(search.running, logits.shape[1], [])
        ]
        scores = _penalise(scores - _log_sum(scores) if beams else scores, written, settings.repetition_penalty)
    values, ids = scores.max(dim=-1, keepdim=True) if wanted == 1 else scores.topk(min(wanted, scores.shape[-1]))
    if wanted > 2 and not (beams and settings.repetition_penalty != 1):
        values = values - _log_sum(scores)
    if isinstance(searches[0], Samples):
        values, ids = draw(values, ids, cast(Sequence[Samples], searches))
    return list(map(Proposals, values.double().cpu().numpy(), ids.cpu().numpy()))


def _log_sum(logits: torch.Tensor) -> torch.Tensor:
    return logits.logsumexp(dim=-1, keepdim=True)


def _penalise(scores: torch.Tensor, written: list[list[int]], penalty: float) -> torch.Tensor:
    longest = max(map(len, written))
    # A text's own first token pads it: a token counts once, however often it was written.
    ids = torch.tensor([[*text, *text[:1] * (longest - len(text))] for text in written], device=scores.device)
    penalised: torch.Tensor = RepetitionPenaltyLogitsProcessor(penalty)(ids, scores.flatten(0, 1))
    return penalised.view_as(scores)
