"""What a training reads: prompt settings, and rows as token ids."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stages.core import paths
from stages.core.params import Params
from stages.corpus.origins import origins
from stages.corpus.tables import read_table, references
from stages.layers.packed_rows import TrainingRow
from stages.models.prompt import Example, PromptBuilder, PromptSettings, choose_examples
from stages.models.tokenizer import load_tokenizer

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class TrainingData:
    """Rows as token ids, with the prompt that they were made by.

    Attributes:
        rows: of the kind that the objective takes, as are `dev_rows`.
        sources: training rows by where they come from, such as `original` or `paraphrase`.
        dev: the dev table, of which `dev_rows` has the first reference of each row.
    """

    builder: PromptBuilder
    rows: list[Any]
    sources: dict[str, int]
    dev: pd.DataFrame
    dev_rows: list[Any]

    @property
    def longest(self) -> int:
        """Tokens of the longest row, prompt and completion."""
        return max(map(len, [*self.rows, *self.dev_rows]))


def read_training_data(params: Params, base: dict[str, Any]) -> TrainingData:
    """The merged training table and dev, prompted as params.yaml says for the base model of this manifest."""
    return training_data(params, base, read_table(paths.MERGED, "train"), read_table(paths.DEV, "dev"))


def training_data(params: Params, base: dict[str, Any], train: pd.DataFrame, dev: pd.DataFrame) -> TrainingData:
    """The same of other tables; without dev rows a training goes to its end unmeasured."""
    settings = prompt_settings(params, train, base)
    train = without_examples(train, settings.examples)
    builder = PromptBuilder(load_tokenizer(paths.MANIFEST), settings)
    firsts = [refs[0] for refs in references(dev)]
    return TrainingData(
        builder=builder,
        rows=training_rows(builder, train["dialogue"].tolist(), train["summary"].tolist(), params.train.loss_on),
        sources=train["source"].value_counts().to_dict(),
        dev=dev,
        dev_rows=training_rows(builder, dev["dialogue"].tolist(), firsts),
    )


def prompt_settings(params: Params, train: pd.DataFrame, base: dict[str, Any]) -> PromptSettings:
    """The prompt's settings, with few-shot examples drawn from original training rows."""
    original = train[train["source"] == "original"].sort_values("fname")
    examples = [Example(row.fname, row.dialogue, row.summary) for row in original.itertuples(index=False)]
    return PromptSettings(
        style=base["prompt"],
        instruction=params.prompt.instruction,
        max_tokens=params.prompt.max_tokens,
        stop_token=base.get("stop_token"),
        examples=choose_examples(examples, params.prompt.few_shot, params.seed),
        date=params.prompt.date,
    )


def without_examples(train: pd.DataFrame, examples: tuple[Example, ...]) -> pd.DataFrame:
    """Leave out the rows shown as few-shot examples, and their augmented copies: a prompt must not tell its summary."""
    kept = train[~origins(train).isin([example.fname for example in examples])]
    if examples:
        logger.info("%d of %d rows held out: few-shot examples and copies of them", len(train) - len(kept), len(train))
    return kept


def training_rows(
    builder: PromptBuilder, dialogues: list[str], summaries: list[str], loss_on: str = "completion"
) -> list[TrainingRow]:
    """Token ids, one row a dialogue.

    Args:
        loss_on: `completion`, or `all`: then what is learned begins after the first token of the prompt.
    """
    rows = [
        TrainingRow(builder.prompt_ids(dialogue), builder.completion_ids(summary))
        for dialogue, summary in zip(dialogues, summaries, strict=True)
    ]
    truncated = sum(builder.is_truncated(dialogue) for dialogue in dialogues)
    if truncated:
        logger.info("%d of %d dialogues lose turns to prompt.max_tokens", truncated, len(rows))
    if loss_on == "all":
        return [TrainingRow(row.prompt_ids[:1], [*row.prompt_ids[1:], *row.completion_ids]) for row in rows]
    return rows


def typical_rows(rows: Sequence[Any], batch_size: int, most_tokens: int) -> list[Any]:
    """As many rows as a step or so many tokens hold, of all lengths: together as long as any so many are on average."""
    mean = sum(map(len, rows)) / len(rows)
    count = max(1, min(batch_size, len(rows), int(most_tokens / mean)))
    in_order = sorted(rows, key=len)
    return [in_order[(2 * number + 1) * len(rows) // (2 * count)] for number in range(count)]


def typical_steps(rows: Sequence[Any], batch_size: int, most: int = 32) -> list[list[int]]:
    """The lengths of the rows of some steps."""
    lengths = [len(row) for row in rows[: most * batch_size]]
    return [lengths[start : start + batch_size] for start in range(0, len(lengths), batch_size)]
