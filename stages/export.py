"""Hand a training on: `python -m stages.export` writes models/merged, the base model with the adapter folded in, for
transformers or vLLM; with `--push OWNER/NAME` the adapter itself goes to the Hugging Face Hub instead.

The base is taken in bfloat16, not in the 4 bits that the adapter was trained on: rounded to 4 bits, the sum of both
would lose much of the adapter (https://github.com/huggingface/peft/issues/2321). What was written is loaded again
and compared on dev with base and adapter side by side, before it takes its name.
"""

from __future__ import annotations

import argparse
import logging
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import read_json, replacing
from stages.core.params import Params, load_params
from stages.corpus.predictions import read_predictions
from stages.corpus.spread import spread
from stages.corpus.tables import read_table
from stages.decoding.find_adapter import adapter_in_use
from stages.engines.settings import DecodingSettings
from stages.models.download import locate
from stages.models.load import load_for_generation
from stages.models.prompt import PROMPT_FILE, PromptBuilder, PromptSettings
from stages.models.quantizers import stored
from stages.models.tokenizer import load_tokenizer
from stages.serving.agreement import Agreement, agreement, expect
from stages.serving.hub import adapter_files, check_name, listing, push
from stages.serving.merge_adapter import fold, is_merged, save_merged
from stages.serving.summarize import summarize

LEAST_AGREEMENT = 0.9
"""Share of tokens, each given the summary of base and adapter up to there. Rounding the sum to bfloat16 turns near
ties, 3 tokens in 100 with the default model and data. One of them is enough for a summary to go another way, so
summaries are counted and tokens required."""

logger = logging.getLogger(__name__)


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command's options; None reads the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m stages.export", description="Fold the adapter into its base, or push it to the Hub."
    )
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--output", type=Path, default=paths.MERGED_MODEL, help=f"folder to write ({paths.MERGED_MODEL})")
    what.add_argument("--push", metavar="OWNER/NAME", help="repository of the Hub to put the adapter into instead")
    parser.add_argument("--public", action="store_true", help="let everybody see that repository (private)")
    parser.add_argument("--dry-run", action="store_true", help="only show what would be pushed")
    parser.add_argument("--samples", type=int, default=8, help="dev dialogues to compare on (8)")
    options = parser.parse_args(arguments)
    if not options.push and (options.public or options.dry_run):
        parser.error("arguments --public, --dry-run: only with --push OWNER/NAME")
    if options.samples < 1:
        parser.error(f"argument --samples: {options.samples}: allowed: an integer of at least 1")
    return options


def check_inputs(adapter: Path) -> None:
    """See that a finished training is there, on the base model that is now chosen.

    Raises:
        UserError: it is not.
    """
    again = f"run `dvc repro {'align' if adapter == paths.ALIGNED else 'train'}`"
    for path in (paths.MANIFEST, paths.DEV, adapter / "adapter_config.json", adapter / PROMPT_FILE):
        if not path.is_file():
            raise UserError(f"{path}: not found; {again}")
    base = read_json(paths.MANIFEST)
    now, then = (
        base.get("repo", base["name"]),
        read_json(adapter / "adapter_config.json")["base_model_name_or_path"],
    )
    found = stored(locate(base))
    if found:
        raise UserError(
            f"{paths.MANIFEST}: the weights of {now} are stored in 4 bits, and an adapter is folded into whole ones; "
            f"use {adapter} with its base, or train on the checkpoint that they were made from"
        )
    if now != then:
        raise UserError(f"{adapter}: trained on {then}, and {paths.MANIFEST} is {now}; {again}")


def check_output(folder: Path) -> None:
    """Refuse to replace anything but an earlier export.

    Raises:
        UserError: something else is there.
    """
    if folder.exists() and not is_merged(folder):
        raise UserError(f"--output {folder}: is there and no earlier export; name a new folder")


def decoding_settings(params: Params) -> DecodingSettings:
    """What the predictions were generated with; before there are any, greedy search."""
    if paths.DECODING.is_file():
        return DecodingSettings(**read_json(paths.DECODING)["chosen"])
    return DecodingSettings(max_new_tokens=params.decoding.max_new_tokens)


def report(read: Agreement, written: list[str], summaries: list[str], predicted: list[str] | None) -> str:
    """The comparison in two lines.

    Args:
        read: how the export reads the summaries of base and adapter.
        written: the export's summaries.
        summaries: those of base and adapter.
        predicted: those of the 4-bit base and the adapter, if there are any.
    """
    predictions = f"not compared: `dvc repro` writes {paths.DEV_PREDICTIONS}"
    if predicted is not None:
        predictions = f"{_equal(written, predicted)} summaries the same"
    return (
        f"base and adapter  {read.same} of {read.positions} tokens the same, {_equal(written, summaries)} summaries; "
        f"largest logit difference {read.difference:.3f}\n"
        f"predictions       {predictions}"
    )


def _equal(first: list[str], second: list[str]) -> str:
    return f"{sum(a == b for a, b in zip(first, second, strict=True))} of {len(first)}"


def export(options: argparse.Namespace, params: Params, adapter: Path) -> None:
    """Fold, write, load again, compare, and only then give the export its name.

    Raises:
        UserError: the export writes something else than base and adapter.
    """
    unquantized = params.quantization.model_copy(update={"load_in_4bit": False, "compute_dtype": "bfloat16"})
    builder = PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(adapter))
    settings = decoding_settings(params)
    dev = read_table(paths.DEV, "dev")
    rows = spread(len(dev), options.samples)
    dialogues = dev["dialogue"].iloc[rows].tolist()
    predicted = None
    if paths.DEV_PREDICTIONS.is_file() and paths.DECODING.is_file():
        every = read_predictions(paths.DEV_PREDICTIONS, dev["fname"])
        predicted = [every[row] for row in rows]

    def write(model: PreTrainedModel, label: str) -> list[str]:
        return summarize(model, builder, dialogues, settings, batch_size=params.decoding.batch_size, label=label)

    model = load_for_generation(paths.MANIFEST, adapter, unquantized)
    summaries = write(model, "base and adapter")
    samples = list(zip(dialogues, summaries, strict=True))
    expected = [expect(model, builder, dialogue, summary) for dialogue, summary in samples]
    with replacing(options.output) as folder:
        model = fold(model)
        logger.info("Writing %s", options.output)
        save_merged(model, builder, settings, folder)
        device = model.device
        del model  # two would not fit where one does
        merged = AutoModelForCausalLM.from_pretrained(folder, device_map={"": device}).eval()
        read = agreement(merged, builder, samples, expected)
        print(report(read, write(merged, "export"), summaries, predicted))
        if read.same < LEAST_AGREEMENT * read.positions:
            raise UserError(
                f"{options.output}: not written: the export and {adapter} agree on {read.same} of "
                f"{read.positions} tokens, below {LEAST_AGREEMENT:.0%}; use {adapter} with its base instead"
            )


def push_adapter(adapter: Path, repo: str, public: bool, dry_run: bool) -> None:
    """Put an adapter into a repository of the Hub, or print what would go there.

    Raises:
        UserError: there is no adapter, the name is none, or the Hub does not take it.
    """
    check_name(repo)
    files = adapter_files(adapter)
    print(listing(files, repo, public))
    if not dry_run:
        print(f"Pushed: {push(files, repo, public)}")


def main(arguments: Sequence[str] | None = None) -> None:
    options = parse(arguments)
    params = load_params()
    adapter = adapter_in_use(params)
    if options.push:
        push_adapter(adapter, options.push, options.public, options.dry_run)
        return
    check_inputs(adapter)
    check_output(options.output)
    try:
        export(options, params, adapter)
    except torch.cuda.OutOfMemoryError:
        raise UserError(
            "CUDA_VISIBLE_DEVICES: the GPU does not hold the unquantized base; put CUDA_VISIBLE_DEVICES= before the "
            "command, and it runs on the CPU"
        ) from None


if __name__ == "__main__":
    run_stage(main)
