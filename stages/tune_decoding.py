"""Choose decoding settings by ROUGE on dev: `python -m stages.tune_decoding` writes metrics/eval/decoding.json."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from stages.common.errors import run_stage
from stages.common.files import write_json
from stages.common.generation import DecodingSettings, summarise
from stages.common.model import load_for_generation, load_tokenizer
from stages.common.params import Decoding, Quantization, load_params
from stages.common.preview import spread
from stages.common.prompt import PromptBuilder, PromptSettings
from stages.common.rouge import morpheme_scores
from stages.common.tables import read_table, references

MANIFEST = Path("models/base.json")
ADAPTER = Path("models/adapter")
DEV = Path("data/clean/dev.csv")
DECODING = Path("metrics/eval/decoding.json")

logger = logging.getLogger(__name__)


def fixed_settings(decoding: Decoding) -> DecodingSettings:
    """The settings that params.yaml gives, without a search."""
    return DecodingSettings(
        max_new_tokens=decoding.max_new_tokens,
        num_beams=decoding.num_beams,
        length_penalty=decoding.length_penalty,
        repetition_penalty=decoding.repetition_penalty,
    )


def candidates(decoding: Decoding) -> list[DecodingSettings]:
    """What the search tries; the length penalty means nothing without beams, so greedy search is tried once."""
    found = []
    for beams in dict.fromkeys(decoding.tune_num_beams):
        for penalty in dict.fromkeys(decoding.tune_length_penalty if beams > 1 else [decoding.length_penalty]):
            found.append(
                DecodingSettings(
                    max_new_tokens=decoding.max_new_tokens,
                    num_beams=beams,
                    length_penalty=penalty,
                    repetition_penalty=decoding.repetition_penalty,
                )
            )
    return found


def search(
    decoding: Decoding, quantization: Quantization, dialogues: Sequence[str], refs: Sequence[Sequence[str]]
) -> list[dict[str, Any]]:
    """Summarise the dialogues with each candidate: its settings, and rouge1 to final against the references."""
    model = load_for_generation(MANIFEST, ADAPTER, quantization)
    builder = PromptBuilder(load_tokenizer(MANIFEST), PromptSettings.load(ADAPTER))
    tried = []
    for settings in candidates(decoding):
        label = f"beams {settings.num_beams}, length penalty {settings.length_penalty:g}"
        hypotheses = summarise(model, builder, dialogues, settings, batch_size=decoding.batch_size, label=label)
        scores = morpheme_scores(hypotheses, refs).rounded()
        logger.info("%s: %.2f", label, scores["final"])
        tried.append({**asdict(settings), **scores})
    return tried


def main() -> None:
    params = load_params()
    decoding = params.decoding
    if not decoding.tune:
        write_json(DECODING, {"chosen": asdict(fixed_settings(decoding))})
        return
    dev = read_table(DEV, "dev")
    rows = spread(len(dev), decoding.tune_samples)
    dialogues, refs = dev["dialogue"].tolist(), references(dev)
    tried = search(decoding, params.quantization, [dialogues[row] for row in rows], [refs[row] for row in rows])
    # The first of equals, in the order given.
    best = max(tried, key=lambda candidate: candidate["final"])
    chosen = {key: best[key] for key in asdict(fixed_settings(decoding))}
    write_json(DECODING, {"chosen": chosen, "samples": len(rows), "tried": tried})


if __name__ == "__main__":
    run_stage(main)
