"""Summaries a second of ours against plain `generate`, which has the same weights in 4 bits and goes in batches.

    python -m benchmarks.infer                                     the embedded model, with the adapter of `make repro`
    python -m benchmarks.infer --shape solar --output solar.json   SOLAR's shape with random weights, on a GPU
    python -m benchmarks.infer --agreement                         the embedded model, and where answers differ

All arms write to the same prompts with the same adapter; `same` counts the answers that equal plain's, token by token,
of the same search. Results are printed, and with --output written as JSON, after each arm.

In bf16 the last bit of a sum depends on how many rows are computed together, and where two tokens are about as likely
it decides. `--agreement` has plain write again in smaller batches, and gives for each answer that differs the distance
of the two tokens at which it parts: what plain's logits of them differ by, in steps of bf16 at their size. With
`--compute float32` no step is that coarse.
"""

from __future__ import annotations

import argparse
import copy
import gc
import math
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bitsandbytes as bnb
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from transformers import PreTrainedModel, set_seed

from benchmarks.random_models import SHAPES, random_model, replace_linear
from stages.core import paths
from stages.core.files import write_json
from stages.engines.batches import Limits, batches, limits_for, queues
from stages.engines.beam_search import BeamSearch
from stages.engines.chains import Greedy
from stages.engines.decode_loop import decode_in_turn
from stages.engines.prefill import common, read_prefix, shared_prefix
from stages.engines.search import Search
from stages.engines.settings import DecodingSettings, Ending
from stages.engines.slot_cache import grouped_attention
from stages.layers.fused_layer import fuse_to_read
from stages.layers.lora_linear import use_lora_linear

SAMPLE = Path("data/sample/train.csv")
NEVER = -1
"""A stop token that no model writes: random weights would stop anywhere."""


@dataclass(frozen=True)
class Work:
    """What every arm has to do."""

    prompts: list[list[int]]
    stop_id: int
    pad_id: int
    new_tokens: int


def plain(model: PreTrainedModel, work: Work, beams: int, rows: int) -> list[list[int]]:
    """`generate` as its documentation has it, in batches sorted by length."""
    found: dict[int, list[int]] = {}
    for batch in batches([len(ids) for ids in work.prompts], 0, Limits(rows)):
        prompts = [work.prompts[row] for row in batch]
        width = max(map(len, prompts))
        ids = torch.tensor([[work.pad_id] * (width - len(p)) + p for p in prompts], device=model.device)
        mask = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts], device=model.device)
        how: dict[str, Any] = {"eos_token_id": work.stop_id} if work.stop_id != NEVER else {}
        with torch.inference_mode():
            output = model.generate(
                input_ids=ids,
                attention_mask=mask,
                do_sample=False,
                num_beams=beams,
                max_new_tokens=work.new_tokens,
                min_new_tokens=work.new_tokens if work.stop_id == NEVER else None,
                pad_token_id=work.pad_id,
                **how,
            )
        found.update(zip(batch, output[:, width:].tolist(), strict=True))
    answers = [found[row] for row in range(len(work.prompts))]
    return [ids[: ids.index(work.stop_id)] if work.stop_id in ids else ids for ids in answers]


def ours(model: PreTrainedModel, work: Work, beams: int, limits: Limits) -> list[list[int]]:
    """What `infer` does, without text around it."""
    found: dict[int, list[int]] = {}
    room = beams * work.new_tokens
    settings = DecodingSettings(work.new_tokens, num_beams=beams)
    with grouped_attention(model):
        prefix = read_prefix(model, shared_prefix(work.prompts))
        for rows in queues([len(ids) for ids in work.prompts], room, limits):
            ids = [work.prompts[row] for row in rows]
            end = Ending(work.stop_id, 0, work.new_tokens, work.new_tokens)
            searches: list[Search] = [BeamSearch(end, beams, [1.0]) if beams > 1 else Greedy(end) for _ in rows]
            decode_in_turn(model, ids, searches, settings, prefix, room, limits)
            found.update(zip(rows, (search.results()[0][0].ids for search in searches), strict=True))
    return [found[row] for row in range(len(work.prompts))]


class Report:
    """Times arms, prints each, and keeps all in a file."""

    def __init__(self, work: Work, output: Path | None) -> None:
        self.work = work
        self.output = output
        self.references: dict[int, list[list[int]]] = {}
        self.found: dict[str, Any] = {
            "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
            "torch": torch.__version__,
            "transformers": transformers.__version__,
            "prompts": len(work.prompts),
            "prompt_tokens": sum(map(len, work.prompts)),
            "new_tokens": work.new_tokens,
            "arms": {},
        }

    def arm(
        self, name: str, beams: int, run: Callable[[Work], list[list[int]]], judge: PreTrainedModel | None = None
    ) -> None:
        """Time one arm; the first to search with so many beams is what the others' answers are compared to.

        Args:
            judge: tells how far apart the tokens are at which answers part.
        """
        warm = Work(self.work.prompts[:2], self.work.stop_id, self.work.pad_id, 4)
        run(warm)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        began = time.perf_counter()
        answers = run(self.work)
        seconds = time.perf_counter() - began
        reference = self.references.setdefault(beams, answers)
        result: dict[str, Any] = {
            "beams": beams,
            "seconds": round(seconds, 2),
            "dialogues_per_second": round(len(answers) / seconds, 3),
            "tokens": sum(map(len, answers)),
            "same": sum(a == b for a, b in zip(answers, reference, strict=True)),
        }
        if torch.cuda.is_available():
            result["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 1)
        if judge is not None:
            result["distances"] = distances(judge, self.work, answers, reference)
        self.found["arms"][name] = result
        print(f"{name:<24} {result}", flush=True)
        if self.output is not None:
            write_json(self.output, self.found)


@torch.inference_mode()
def distances(
    judge: PreTrainedModel, work: Work, answers: Sequence[list[int]], references: Sequence[list[int]]
) -> list[float]:
    """For each answer that differs: how far the judge's logits of the first different tokens are apart, sorted.

    The unit is what two neighbouring bf16 numbers of that size differ by.
    """
    found = []
    for prompt, pair in zip(work.prompts, zip(answers, references, strict=True), strict=True):
        if pair[0] != pair[1]:
            begun = common(pair)
            ids = torch.tensor([[*prompt, *begun]], device=judge.device)
            logits = judge(input_ids=ids).logits[0, -1].float()
            parting = [ids[len(begun)] if len(ids) > len(begun) else work.stop_id for ids in pair]
            first, second = logits[parting].tolist()
            step = 2.0 ** (math.frexp(max(abs(first), abs(second)))[1] - 8)
            found.append(round(abs(first - second) / step, 2))
    return sorted(found)


def embedded(
    report_to: Path | None, rows: int, new_tokens: int, batch: int, compute: str | None, agreement: bool
) -> None:
    """The arms on the model of the last `make repro`; `compute`: a dtype for weights that are not in 4 bits."""
    # Where weights are random, none of the pipeline's own modules is needed.
    from stages.core.params import load_params
    from stages.corpus.tables import read_table
    from stages.engines.load_writers import load_writer
    from stages.models.load import load_base

    quantization = load_params().quantization
    if compute is not None:
        quantization = quantization.model_copy(update={"load_in_4bit": False, "compute_dtype": compute})
    writer = load_writer(quantization, merge=True)
    builder, model = writer.builder, writer.model
    dialogues = read_table(SAMPLE, "train")["dialogue"].head(rows)
    work = Work([builder.prompt_ids(text) for text in dialogues], builder.stop_id, builder.pad_id, new_tokens)
    report = Report(work, report_to)
    usual = PeftModel.from_pretrained(load_base(paths.MANIFEST, quantization), paths.ADAPTER).eval()
    judge = usual if agreement else None
    report.arm("plain", 1, lambda work: plain(usual, work, 1, 12))
    if agreement:
        report.arm("plain, batches of 6", 1, lambda work: plain(usual, work, 1, 6), judge)
    limits = limits_for(model, batch, "auto")
    report.arm("ours, greedy", 1, lambda work: ours(model, work, 1, limits), judge)
    report.arm("ours, 4 beams", 4, lambda work: ours(model, work, 4, limits))


def solar(report_to: Path | None, rows: int, new_tokens: int, batch: int, layers: int) -> None:
    """The arms on random weights of SOLAR's shape, in 4 bits and dequantized."""
    draw = random.Random(0)
    lengths = [min(1400, max(700, round(draw.gauss(1050, 120)))) for _ in range(rows)]
    prompts = [
        [1, *(draw.randrange(3, SHAPES["solar-10b"].vocab_size) for _ in range(length - 1))] for length in lengths
    ]
    report = Report(Work(prompts, NEVER, 0, new_tokens), report_to)
    config = copy.deepcopy(SHAPES["solar-10b"])
    config.num_hidden_layers = layers
    model = adapted(random_model(config, nf4=True))
    free()
    report.arm("plain, 4 bits", 1, lambda work: plain(model, work, 1, 32))
    adapter = get_peft_model_state_dict(model)
    base = model.unload()
    dequantize(base)
    dense = adapted(base, adapter)
    free()
    report.arm("plain, bf16", 1, lambda work: plain(dense, work, 1, 32))
    ready = adapted(dense.unload(), adapter, as_we_do=True)
    fuse_to_read(ready)
    free()
    limits = limits_for(ready, batch, "auto")
    report.arm("ours, greedy", 1, lambda work: ours(ready, work, 1, limits))
    free()
    report.arm("ours, 4 beams", 4, lambda work: ours(ready, work, 4, limits))


def dequantize(model: PreTrainedModel) -> None:
    """Hold the same weights in bf16, in place."""

    def whole(small: Any) -> torch.nn.Module:
        weight = bnb.functional.dequantize_4bit(small.weight.data, small.weight.quant_state).to(torch.bfloat16)
        linear = torch.nn.Linear(small.in_features, small.out_features, bias=False, device="meta")
        linear.weight = torch.nn.Parameter(weight, requires_grad=False)
        return linear

    replace_linear(model, bnb.nn.Linear4bit, whole)


def adapted(
    model: PreTrainedModel, state: dict[str, torch.Tensor] | None = None, *, as_we_do: bool = False
) -> PeftModel:
    """The model with a LoRA adapter of rank 16 on every linear layer: a random one, or the one given.

    The layers are PEFT's own; `as_we_do` takes those of `load_for_generation`.
    """
    set_seed(1)
    config = LoraConfig(r=16, lora_alpha=32, target_modules="all-linear", init_lora_weights=False)
    peft = get_peft_model(model, use_lora_linear(config) if as_we_do else config, autocast_adapter_dtype=not as_we_do)
    if state is not None:
        set_peft_model_state_dict(peft, state)
    return peft.eval()


def free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", choices=["embedded", "solar"], default="embedded")
    parser.add_argument("--rows", type=int, help="prompts; default 48, and 128 of SOLAR's shape")
    parser.add_argument("--new-tokens", type=int, help="the longest answer; default 80, and 64 of SOLAR's shape")
    parser.add_argument("--batch", type=int, help="our rows at once; default 64, and 128 of SOLAR's shape")
    parser.add_argument(
        "--layers", type=int, default=48, help="fewer for a quick look at SOLAR's shape, on the CPU too"
    )
    parser.add_argument("--compute", help="of the embedded model: a dtype, instead of the 4 bits of params.yaml")
    parser.add_argument("--agreement", action="store_true", help="of the embedded model: where answers differ")
    parser.add_argument("--output", type=Path, help="a JSON file for the results")
    given = parser.parse_args(arguments)
    if given.shape == "solar":
        solar(given.output, given.rows or 128, given.new_tokens or 64, given.batch or 128, given.layers)
    else:
        rows, new_tokens, batch = given.rows or 48, given.new_tokens or 80, given.batch or 64
        embedded(given.output, rows, new_tokens, batch, given.compute, given.agreement)


if __name__ == "__main__":
    main()
