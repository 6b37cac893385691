"""A checkpoint that has the adapter in its weights: made, written, and known again."""

from __future__ import annotations

from copy import copy
from pathlib import Path

from peft import PeftModel
from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase

from stages.core.errors import UserError
from stages.engines.settings import DecodingSettings, active
from stages.models.chat_template import with_date
from stages.models.prompt import PROMPT_FILE, PromptBuilder

IN_TRANSFORMERS = {"num_beams", "length_penalty", "repetition_penalty"}
"""Settings that mean the same to `generate`; its lengths are tokens, ours shares of the dialogue's."""


def fold(model: PeftModel) -> PreTrainedModel:
    """The base model with the adapter in its weights; `model` is used up.

    Raises:
        UserError: a weight is not finite.
    """
    try:
        merged: PreTrainedModel = model.merge_and_unload(progressbar=True, safe_merge=True)
    except ValueError as error:
        raise UserError(f"models/adapter: {error}; lower train.learning_rate and run `dvc repro train`") from None
    return merged


def save_merged(model: PreTrainedModel, builder: PromptBuilder, settings: DecodingSettings, folder: Path) -> None:
    """Write weights as safetensors, configuration, tokenizer, prompt settings and, as defaults, decoding settings."""
    model.generation_config = generation_config(model, builder, settings)
    # The base model's path on this machine.
    model.config.name_or_path = ""
    model.save_pretrained(folder)
    _with_date(builder.tokenizer, builder.settings.date).save_pretrained(folder)
    builder.settings.save(folder)


def _with_date(tokenizer: PreTrainedTokenizerBase, date: str) -> PreTrainedTokenizerBase:
    """A tokenizer whose chat template takes `date` for today, as the adapter's prompts do."""
    dated = copy(tokenizer)
    if isinstance(tokenizer.chat_template, dict):
        dated.chat_template = {name: with_date(text, date) for name, text in tokenizer.chat_template.items()}
    elif tokenizer.chat_template is not None:
        dated.chat_template = with_date(tokenizer.chat_template, date)
    return dated


def is_merged(folder: Path) -> bool:
    """Whether a folder holds what `save_merged` writes: a base model has no prompt, and an adapter no configuration."""
    return (folder / "config.json").is_file() and (folder / PROMPT_FILE).is_file()


def generation_config(model: PreTrainedModel, builder: PromptBuilder, settings: DecodingSettings) -> GenerationConfig:
    """What `generate` does by itself; of the settings, it gets those that transformers has by the same name."""
    return GenerationConfig(
        do_sample=False,
        max_new_tokens=settings.max_new_tokens,
        bos_token_id=model.generation_config.bos_token_id,
        eos_token_id=builder.stop_id,
        pad_token_id=builder.pad_id,
        **{name: value for name, value in active(settings).items() if name in IN_TRANSFORMERS},
    )
