"""Writes summaries in batches."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import chain

from transformers import PreTrainedModel

from stages.core.params import Decoding
from stages.engines.batches import SIDE_BY_SIDE, Limits, Tell, limits_for
from stages.engines.beam_search import BeamSearch
from stages.engines.chains import Greedy, Samples
from stages.engines.decode_loop import decode, decode_in_turn
from stages.engines.prefill import Prefix, Prompts, common, read_prefix, read_prompts, repeat_prompts, shared_prefix
from stages.engines.search import Search
from stages.engines.settings import DecodingSettings, Ending, ending
from stages.engines.slot_cache import grouped_attention
from stages.engines.writer import Sampling
from stages.models.prompt import PromptBuilder


class TransformersWriter:
    """Writes with a model in memory.

    Args:
        adapter: the one of the model's adapters to write with; without, the model is taken as it is.
    """

    def __init__(self, model: PreTrainedModel, builder: PromptBuilder, adapter: str | None = None) -> None:
        self.model = model
        self.builder = builder
        self.adapter = adapter
        self.prefix: Prefix | None = None

    def prepare(self, dialogues: Sequence[str]) -> list[int]:
        """Read what all prompts begin with, once for all of their batches."""
        prompts = [self.builder.prompt_ids(dialogue) for dialogue in dialogues]
        with self._ready():
            self.prefix = read_prefix(self.model, shared_prefix(prompts))
        return [len(prompt) for prompt in prompts]

    def limits(self, decoding: Decoding) -> Limits:
        samples = 1 if decoding.rerank == "none" else decoding.samples
        return limits_for(self.model, decoding.batch_size, decoding.max_tokens_per_batch, max(samples, 1))

    def write(self, dialogues: Sequence[str], settings: DecodingSettings, limits: Limits, tell: Tell) -> list[str]:
        searches = self._searches(dialogues, [settings])
        self._run_in_turn(dialogues, searches, settings, settings.num_beams, limits, tell)
        return [self._texts(search)[0][0] for search in searches]

    def candidates(
        self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling | None = None
    ) -> list[list[str]]:
        searches = self._searches(dialogues, [settings])
        drawn = self._sampling(dialogues, settings, sampling) if sampling else [[] for _ in dialogues]
        with self._ready():
            prompts = self._read(self._prompt_ids(dialogues), settings.num_beams * settings.max_new_tokens)
            decode(self.model, prompts, searches, settings)
            if sampling:
                # The beams' prompts are read already; side by side, samples would read past each other's tokens.
                repeated = repeat_prompts(prompts, len(drawn[0]), SIDE_BY_SIDE * settings.max_new_tokens)
                decode(self.model, repeated, list(chain.from_iterable(drawn)), settings)
        found = [[search, *samples] for search, samples in zip(searches, drawn, strict=True)]
        return [[text for search in of for text in self._texts(search)[0]] for of in found]

    def samples(
        self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling, limits: Limits
    ) -> list[list[str]]:
        drawn = self._sampling(dialogues, settings, sampling)
        rows = [row for row, searches in enumerate(drawn) for _ in searches]
        searches = list(chain.from_iterable(drawn))
        repeated = [dialogues[row] for row in rows]
        self._run_in_turn(repeated, searches, settings, min(sampling.count, SIDE_BY_SIDE), limits, lambda _: None)
        return [[text for search in of for text in self._texts(search)[0]] for of in drawn]

    def best(self, dialogues: Sequence[str], settings: Sequence[DecodingSettings]) -> list[list[str]]:
        """The best summary of each dialogue under each of the settings: (settings, dialogues).

        Prompts are read once, and settings that differ in nothing but the length penalty take one search.
        """
        kinds: dict[DecodingSettings, list[DecodingSettings]] = {}
        for candidate in settings:
            kinds.setdefault(replace(candidate, length_penalty=1.0), []).append(candidate)
        summaries: dict[DecodingSettings, list[str]] = {}
        with self._ready():
            room = max(candidate.num_beams * candidate.max_new_tokens for candidate in settings)
            prompts = self._read(self._prompt_ids(dialogues), room)
            for first, alike in kinds.items():
                searches = self._searches(dialogues, alike)
                decode(self.model, prompts, searches, first)
                results = [self._texts(search) for search in searches]
                # A greedy search has no length penalty, and one result for all of them.
                for i, candidate in enumerate(alike):
                    summaries[candidate] = [texts[min(i, len(texts) - 1)][0] for texts in results]
        return [summaries[candidate] for candidate in settings]

    def watched(self, dialogue: str, settings: DecodingSettings, show: Callable[[str], None]) -> str:
        """Summarize one dialogue; `show` is given, after each token, as much of the text as is settled."""
        [search] = self._searches([dialogue], [settings])

        def watch() -> None:
            show(self.builder.summary(common(search.possible())))

        with self._ready():
            prompts = self._read(self._prompt_ids([dialogue]), settings.num_beams * settings.max_new_tokens)
            decode(self.model, prompts, [search], settings, watch=watch)
        return self._texts(search)[0][0]

    @contextmanager
    def _ready(self) -> Iterator[None]:
        if self.adapter is not None:
            self.model.set_adapter(self.adapter)
        with grouped_attention(self.model):
            yield

    def _prompt_ids(self, dialogues: Sequence[str]) -> list[list[int]]:
        return [self.builder.prompt_ids(dialogue) for dialogue in dialogues]

    def _read(self, prompts: Sequence[Sequence[int]], room: int) -> Prompts:
        return read_prompts(self.model, prompts, self._prefix_of(prompts), room)

    def _prefix_of(self, prompts: Sequence[Sequence[int]]) -> Prefix:
        if self.prefix is None or any(common([self.prefix.ids, each[:-1]]) != self.prefix.ids for each in prompts):
            return read_prefix(self.model, shared_prefix(prompts))
        return self.prefix

    def _run_in_turn(
        self,
        dialogues: Sequence[str],
        searches: Sequence[Search],
        settings: DecodingSettings,
        hypotheses: int,
        limits: Limits,
        tell: Tell,
    ) -> None:
        """Run as many searches at once as the limits allow; the others wait. Each has so many hypotheses at once."""
        told = 0

        def watch() -> None:
            nonlocal told
            done = sum(search.done for search in searches)
            tell(done - told)
            told = done

        ids = self._prompt_ids(dialogues)
        room = hypotheses * settings.max_new_tokens
        with self._ready():
            prefix = self._prefix_of(ids)
            decode_in_turn(self.model, ids, searches, settings, prefix, room, limits, watch)

    def _searches(self, dialogues: Sequence[str], settings: Sequence[DecodingSettings]) -> list[Search]:
        """A search for each dialogue, under settings that differ in nothing but the length penalty."""
        num_beams = settings[0].num_beams
        penalties = [each.length_penalty for each in settings]
        return [
            BeamSearch(end, num_beams, penalties) if num_beams > 1 else Greedy(end)
            for end in self._endings(dialogues, settings[0])
        ]

    def _sampling(self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling) -> list[list[Search]]:
        """The searches of each dialogue, as many for all, of up to SIDE_BY_SIDE samples each."""
        drawn: list[list[Search]] = []
        for dialogue, end in zip(dialogues, self._endings(dialogues, settings), strict=True):
            generators = [random.Random(f"{sampling.seed} {number} {dialogue}") for number in range(sampling.count)]
            starts = range(0, sampling.count, SIDE_BY_SIDE)
            parts = [generators[start : start + SIDE_BY_SIDE] for start in starts]
            drawn.append([Samples(end, part, sampling.temperature) for part in parts])
        return drawn

    def _endings(self, dialogues: Sequence[str], settings: DecodingSettings) -> list[Ending]:
        encoder, stop = self.builder.encoder, self.builder.stop_id
        return [ending(settings, stop, len(ids), encoder.decode) for ids in encoder.encode_all(dialogues)]

    def _texts(self, search: Search) -> list[list[str]]:
        """What was found, best first, once for each length penalty."""
        return [[self.builder.summary(hypothesis.ids) for hypothesis in hypotheses] for hypotheses in search.results()]
