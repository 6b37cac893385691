"""Whether what makes training fast changes what is learned, on the base model and tables of the last `dvc repro`.

    python -m benchmarks.quality --seeds 1 2 3 --output quality.jsonl

Trains with plain TRL (padded rows, 4-bit weights dequantized at each use, PEFT's own layers), with ours, and with ours
in FP8 where GPU and model have it: same rows, same order, same settings. TRL holds a quantized base's adapters in
bfloat16, in which small updates are lost; ours are float32, so plain TRL is also run with those. All adapters are then
judged alike, as `infer` loads them: the loss on dev, and ROUGE of greedy summaries.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import fmean
from typing import Any

import pandas as pd
import torch
from peft import LoraConfig
from torch.nn.functional import cross_entropy
from transformers import PreTrainedModel, set_seed
from trl import SFTTrainer

from benchmarks.train_step import no_preview, padded, plan_of
from stages.core import paths
from stages.core.files import read_json
from stages.core.params import Params, load_params
from stages.corpus.tables import read_table, references
from stages.engines.settings import DecodingSettings
from stages.layers.packed_rows import TrainingRow
from stages.models.families import fused_families
from stages.models.load import has_fp8, load_base, load_for_generation
from stages.models.prompt import PromptBuilder
from stages.models.tokenizer import load_tokenizer
from stages.scoring.rouge import morpheme_scores, word_scores
from stages.serving.summarize import summarize
from stages.training.data import prompt_settings, training_rows, typical_steps, without_examples
from stages.training.memory_plan import budget, dequantize_base, trainable
from stages.training.trainer import SummaryTrainer, as_dataset
from stages.training.trl_settings import lora_config, sft_config

LEVELS = {"word": word_scores, "morpheme": morpheme_scores}
ARMS = PLAIN, PLAIN_FLOAT32, OURS, FP8 = "plain TRL", "plain TRL, float32 adapters", "ours", "ours, FP8"


def trainer_for(arm: str, params: Params, builder: PromptBuilder, rows: list[TrainingRow], output: Path) -> SFTTrainer:
    """A trainer of one of the arms, ready to train with the settings of params.yaml."""
    quiet = {"eval_strategy": "no", "save_strategy": "no", "load_best_model_at_end": False, "disable_tqdm": True}
    common: dict[str, Any] = {"train_dataset": as_dataset(rows), "processing_class": builder.tokenizer}
    model = load_base(paths.MANIFEST, params.quantization)
    args = replace(sft_config(params, output, eval_steps=1, dtype=model.dtype), logging_steps=1000, **quiet)
    lora = lora_config(params, model)
    if arm in (PLAIN, PLAIN_FLOAT32):

        def collate(batch: Sequence[dict[str, list[int]]]) -> dict[str, torch.Tensor]:
            return padded([TrainingRow(**row) for row in batch], builder.pad_id)

        args = replace(args, bf16=torch.cuda.is_available())
        pefts_own = LoraConfig(**lora.to_dict())
        trainer = SFTTrainer(model=model, args=args, peft_config=pefts_own, data_collator=collate, **common)
        if arm == PLAIN_FLOAT32:
            for parameter in trainable(trainer.model):
                parameter.data = parameter.data.float()
        return trainer
    memory = budget("auto")
    if arm == OURS and dequantize_base("auto", model.num_parameters(), memory):
        model = model.dequantize()
    trainer = SummaryTrainer(model=model, args=args, peft_config=lora, preview=no_preview, fp8=arm == FP8, **common)
    trainer.use(plan_of(trainer, rows, typical_steps(rows, params.train.batch_size), memory))
    return trainer


@torch.no_grad()
def dev_loss(model: PreTrainedModel, rows: list[TrainingRow]) -> float:
    """The mean over rows of a row's mean loss on its completion."""
    losses = []
    for row in rows:
        ids = torch.tensor([row.input_ids], device=model.device)
        logits = model(input_ids=ids).logits[0, len(row.prompt_ids) - 1 : -1].float()
        losses.append(cross_entropy(logits, ids[0, len(row.prompt_ids) :]).item())
    return fmean(losses)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--arms", nargs="+", choices=ARMS)
    parser.add_argument("--level", choices=LEVELS, default="morpheme", help="what ROUGE counts")
    parser.add_argument("--adapters", type=Path, help="a folder to keep the adapters in")
    parser.add_argument("--output", type=Path, help="a file for the results, JSON lines")
    options = parser.parse_args()
    params = load_params()
    train, dev = read_table(paths.MERGED, "train"), read_table(paths.DEV, "dev")
    settings = prompt_settings(params, train, read_json(paths.MANIFEST))
    builder = PromptBuilder(load_tokenizer(paths.MANIFEST), settings)
    train = without_examples(train, settings.examples)
    rows = training_rows(builder, train["dialogue"].tolist(), train["summary"].tolist())
    dialogues, refs = dev["dialogue"].tolist(), references(dev)
    dev_rows = training_rows(builder, dialogues, [given[0] for given in refs])

    def judge(model: PreTrainedModel) -> dict[str, float]:
        greedy = DecodingSettings(max_new_tokens=params.decoding.max_new_tokens)
        batch_size = params.decoding.batch_size
        summaries = summarize(model, builder, dialogues, greedy, batch_size=batch_size, label="dev")
        scores = LEVELS[options.level](summaries, refs)
        return {"dev loss": round(dev_loss(model, dev_rows), 4), **scores.rounded()}

    can_fp8 = has_fp8() and load_base(paths.MANIFEST, params.quantization).config.model_type in fused_families()
    arms = options.arms or [arm for arm in ARMS if arm != FP8 or can_fp8]
    results = []
    for seed in options.seeds:
        for arm in arms:
            with tempfile.TemporaryDirectory() as output:
                adapter = (options.adapters or Path(output)) / f"{arm.replace(', ', '-').replace(' ', '-')}-{seed}"
                measured = run(arm, params.model_copy(update={"seed": seed}), builder, rows, judge, adapter)
            result = {"seed": seed, "arm": arm, **measured}
            results.append(result)
            print(json.dumps(result), flush=True)
            if options.output:
                with options.output.open("a") as file:
                    file.write(json.dumps(result) + "\n")
    table = pd.DataFrame(results).drop(columns="seed").groupby("arm", sort=False).agg(["mean", "std"]).round(3)
    print(table.to_string())


def run(
    arm: str,
    params: Params,
    builder: PromptBuilder,
    rows: list[TrainingRow],
    judge: Callable[[PreTrainedModel], dict[str, float]],
    adapter: Path,
) -> dict[str, float]:
    """Train once, keep the adapter, and judge it."""
    with tempfile.TemporaryDirectory() as output:
        set_seed(params.seed)
        trainer = trainer_for(arm, params, builder, rows, Path(output))
        set_seed(params.seed)
        began = time.perf_counter()
        trainer.train()
        seconds = time.perf_counter() - began
        trainer.model.save_pretrained(adapter)
        del trainer
    judged = judge(load_for_generation(paths.MANIFEST, adapter, params.quantization))
    tokens = params.train.epochs * sum(map(len, rows))
    return {"seconds": round(seconds, 1), "tokens/s": round(tokens / seconds), **judged}


if __name__ == "__main__":
    main()
