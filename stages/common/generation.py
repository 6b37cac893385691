"""Writes summaries in batches."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar

from tqdm import tqdm
from transformers import PreTrainedModel

from stages.common.decode import Watch, decode
from stages.common.decoding import DecodingSettings, Ending, ending
from stages.common.limits import Limits, limits_for
from stages.common.params import Decoding
from stages.common.partial import Journal
from stages.common.postprocess import RULES, process
from stages.common.prefill import Prefix, Prompts, common, read_prefix, read_prompts, shared_prefix
from stages.common.prompt import PromptBuilder
from stages.common.search import Beams, Chains, Search
from stages.common.slots import grouped_attention

T = TypeVar("T")
BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}, {rate_noinv_fmt}]"


@dataclass(frozen=True)
class Sampling:
    """Summaries drawn at random; the same seed and dialogue give the same ones, in any batch."""

    count: int
    temperature: float
    seed: int


class Writer(Protocol):
    """Turns dialogues into summaries, as the model wrote them."""

    def prepare(self, dialogues: Sequence[str]) -> list[int]:
        """Get ready for these dialogues: the tokens of each one's prompt."""

    def limits(self, decoding: Decoding) -> Limits:
        """The most to write at once."""

    def candidates(
        self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling | None = None
    ) -> list[list[str]]:
        """For each dialogue what a search finds, best first, and then samples."""

    def samples(self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling) -> list[list[str]]:
        """For each dialogue only samples."""


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
        return limits_for(self.model, decoding.batch_size, decoding.max_tokens_per_batch)

    def candidates(
        self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling | None = None
    ) -> list[list[str]]:
        width = max(settings.num_beams, sampling.count if sampling else 0)
        with self._ready():
            prompts = self._read(dialogues, width * settings.max_new_tokens)
            found = [texts[0] for texts in self._search(prompts, dialogues, [settings])]
            drawn = self._sample(prompts, dialogues, settings, sampling) if sampling else [[] for _ in dialogues]
        return [[*best, *more] for best, more in zip(found, drawn, strict=True)]

    def samples(self, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling) -> list[list[str]]:
        with self._ready():
            prompts = self._read(dialogues, sampling.count * settings.max_new_tokens)
            return self._sample(prompts, dialogues, settings, sampling)

    def best(self, dialogues: Sequence[str], settings: Sequence[DecodingSettings]) -> list[list[str]]:
        """The best summary of each dialogue under each of the settings: (settings, dialogues).

        Prompts are read once, and settings that differ in nothing but the length penalty take one search.
        """
        searches: dict[DecodingSettings, list[DecodingSettings]] = {}
        for each in settings:
            searches.setdefault(replace(each, length_penalty=1.0), []).append(each)
        found: dict[DecodingSettings, list[str]] = {}
        with self._ready():
            prompts = self._read(dialogues, max(each.num_beams * each.max_new_tokens for each in settings))
            for alike in searches.values():
                results = self._search(prompts, dialogues, alike)
                # A greedy search has no length penalty, and one result for all of them.
                for i, each in enumerate(alike):
                    found[each] = [texts[min(i, len(texts) - 1)][0] for texts in results]
        return [found[each] for each in settings]

    def watched(self, dialogue: str, settings: DecodingSettings, show: Callable[[str], None]) -> str:
        """Summarise one dialogue; `show` is given, after each token, as much of the text as is settled."""

        def watch(possible: list[list[int]]) -> None:
            show(self._text(common(possible)))

        with self._ready():
            prompts = self._read([dialogue], settings.num_beams * settings.max_new_tokens)
            [[texts]] = self._search(prompts, [dialogue], [settings], watch)
        return texts[0]

    @contextmanager
    def _ready(self) -> Iterator[None]:
        if self.adapter is not None:
            self.model.set_adapter(self.adapter)
        with grouped_attention(self.model):
            yield

    def _read(self, dialogues: Sequence[str], room: int) -> Prompts:
        ids = [self.builder.prompt_ids(dialogue) for dialogue in dialogues]
        prefix = self.prefix
        if prefix is None or any(common([prefix.ids, each[:-1]]) != prefix.ids for each in ids):
            prefix = read_prefix(self.model, shared_prefix(ids))
        return read_prompts(self.model, ids, prefix, room)

    def _search(
        self,
        prompts: Prompts,
        dialogues: Sequence[str],
        settings: Sequence[DecodingSettings],
        watch: Watch | None = None,
    ) -> list[list[list[str]]]:
        """Texts, best first: (dialogues, length penalties, found)."""
        first = settings[0]
        penalties = [each.length_penalty for each in settings]
        searches: list[Search] = [
            Beams(end, first.num_beams, penalties) if first.num_beams > 1 else Chains(end)
            for end in self._endings(dialogues, first)
        ]
        decode(self.model, prompts, searches, first.repetition_penalty, watch)
        return [[[self._text(each.ids) for each in found] for found in search.results()] for search in searches]

    def _sample(
        self, prompts: Prompts, dialogues: Sequence[str], settings: DecodingSettings, sampling: Sampling
    ) -> list[list[str]]:
        searches = [
            Chains(
                end,
                [random.Random(f"{sampling.seed} {number} {dialogue}") for number in range(sampling.count)],
                sampling.temperature,
            )
            for dialogue, end in zip(dialogues, self._endings(dialogues, settings), strict=True)
        ]
        decode(self.model, prompts, searches, settings.repetition_penalty)
        return [[self._text(each.ids) for each in search.results()[0]] for search in searches]

    def _endings(self, dialogues: Sequence[str], settings: DecodingSettings) -> list[Ending]:
        tokenizer = self.builder.tokenizer
        lengths = [len(ids) for ids in tokenizer(list(dialogues), add_special_tokens=False)["input_ids"]]
        return [ending(settings, self.builder.stop_id, length, tokenizer.decode) for length in lengths]

    def _text(self, ids: Sequence[int]) -> str:
        text: str = self.builder.tokenizer.decode(ids, skip_special_tokens=True)
        return text


def summarise(
    model: PreTrainedModel,
    builder: PromptBuilder,
    dialogues: Sequence[str],
    settings: DecodingSettings,
    *,
    batch_size: int,
    label: str,
    rules: Iterable[str] = tuple(RULES),
) -> list[str]:
    """Summarise dialogues in batches of similar length, longest first.

    Returns:
        One summary a dialogue, in the order given, after the rules of `stages.common.postprocess`.
    """
    writer = TransformersWriter(model, builder)

    def work(rows: list[int]) -> list[str]:
        return [process(texts[0], rules) for texts in writer.candidates([dialogues[row] for row in rows], settings)]

    limits = Limits(batch_size)
    return in_batches(work, writer.prepare(dialogues), settings.num_beams * settings.max_new_tokens, limits, label)


def in_batches(
    work: Callable[[list[int]], list[T]],
    lengths: Sequence[int],
    room: int,
    limits: Limits,
    label: str,
    journal: Journal | None = None,
) -> list[T]:
    """Do work on rows in batches of similar length, longest first, with a progress bar.

    Args:
        work: takes rows, and gives a value for each; with a journal, one that JSON holds.
        lengths: tokens of each row's prompt.
        room: tokens that are written after a prompt, all beams together.
        journal: batches that it has are not done again, so a resumed run has the batches of an uninterrupted one.
    """
    found: dict[int, T] = {}
    with tqdm(total=len(lengths), desc=label, unit=" dialogues", bar_format=BAR) as bar:
        for number, rows in enumerate(batches(lengths, room, limits)):
            if journal is not None and number in journal.values:
                values = journal.values[number]
                bar.initial += len(rows)
            else:
                values = work(rows)
                if journal is not None:
                    journal.append(number, values)
            found.update(zip(rows, values, strict=True))
            bar.update(len(rows))
    return [found[row] for row in range(len(lengths))]


def batches(lengths: Sequence[int], room: int, limits: Limits) -> list[list[int]]:
    """Rows by length, longest first, as many at once as the limits allow, and at least one.

    >>> batches([10, 30, 20], room=10, limits=Limits(rows=8, tokens=80))
    [[1, 2], [0]]
    """
    found: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: -lengths[row]):
        if found and len(found[-1]) < limits.rows:
            width = lengths[found[-1][0]] + room
            if width * (len(found[-1]) + 1) <= limits.tokens:
                found[-1].append(row)
                continue
        found.append([row])
    return found
