"""Summaries a second of ours against plain `generate` on the 4-bit model, with the adapter of the last `dvc repro`.

    python -m benchmarks.generation

The same dialogues, settings and weights; the answers have to be the same text.
"""

from __future__ import annotations

import time
from pathlib import Path

import torch
from peft import PeftModel

from stages.common.generation import DecodingSettings, summarise
from stages.common.model import load_base, load_for_generation, load_tokenizer
from stages.common.params import load_params
from stages.common.prompt import PromptBuilder, PromptSettings
from stages.common.tables import read_table

MANIFEST = Path("models/base.json")
ADAPTER = Path("models/adapter")
DEV = Path("data/clean/dev.csv")
ROWS = 8


def plain(model: PeftModel, builder: PromptBuilder, dialogues: list[str], settings: DecodingSettings) -> list[str]:
    """One call of `generate`, as its documentation has it."""
    prompts = [{"input_ids": builder.prompt_ids(dialogue)} for dialogue in dialogues]
    batch = builder.tokenizer.pad(prompts, return_tensors="pt").to(model.device)
    with torch.inference_mode():
        output = model.generate(
            **batch,
            do_sample=False,
            num_beams=settings.num_beams,
            max_new_tokens=settings.max_new_tokens,
            pad_token_id=builder.pad_id,
        )
    texts = builder.tokenizer.batch_decode(output[:, batch["input_ids"].shape[1] :], skip_special_tokens=True)
    return [" ".join(text.split()) for text in texts]


def main() -> None:
    params = load_params()
    builder = PromptBuilder(load_tokenizer(MANIFEST), PromptSettings.load(ADAPTER))
    dialogues = read_table(DEV, "dev")["dialogue"].head(ROWS).tolist()
    four_bit = PeftModel.from_pretrained(load_base(MANIFEST, params.quantization), ADAPTER).eval()
    ours = load_for_generation(MANIFEST, ADAPTER, params.quantization)
    for beams in (1, 4):
        settings = DecodingSettings(max_new_tokens=params.decoding.max_new_tokens, num_beams=beams)
        began = time.perf_counter()
        expected = plain(four_bit, builder, dialogues, settings)
        middle = time.perf_counter()
        answers = summarise(ours, builder, dialogues, settings, batch_size=ROWS, label=f"beams {beams}")
        end = time.perf_counter()
        same = sum(a == b for a, b in zip(expected, answers, strict=True))
        print(
            f"beams {beams}: plain {ROWS / (middle - began):.2f} dialogues/s, ours {ROWS / (end - middle):.2f}, "
            f"{(middle - began) / (end - middle):.1f} times; {same} of {ROWS} texts the same"
        )


if __name__ == "__main__":
    main()
