"""Loads the tokenizer of the base model in models/base.json."""

from __future__ import annotations

from pathlib import Path

from transformers import AutoTokenizer, PreTrainedTokenizerBase

from stages.core.files import read_json
from stages.models.download import locate


def load_tokenizer(manifest: Path) -> PreTrainedTokenizerBase:
    """The base model's tokenizer; batches are padded on the left, as generation needs it."""
    tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(locate(read_json(manifest)))
    tokenizer.padding_side = "left"
    return tokenizer
