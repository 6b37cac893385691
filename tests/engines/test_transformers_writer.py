from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import Gemma3ForCausalLM, Gemma3TextConfig, PreTrainedModel, set_seed

from stages.core.files import write_json
from stages.core.params import Quantization
from stages.corpus.tables import read_table
from stages.decoding.postprocess import process
from stages.engines.batches import Limits, batches
from stages.engines.beam_search import BeamSearch
from stages.engines.chains import Greedy
from stages.engines.decode_loop import decode as decode_all
from stages.engines.prefill import read_prefix, read_prompts, shared_prefix
from stages.engines.search import Search
from stages.engines.settings import DecodingSettings, Ending, ending
from stages.engines.transformers_writer import TransformersWriter
from stages.engines.writer import Sampling
from stages.models.load import load_for_generation
from stages.models.prompt import Example, PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer
from stages.serving.summarize import summarize
from tests.tiny import SAMPLE

FLOAT32 = Quantization(load_in_4bit=False, type="nf4", double_quant=True, compute_dtype="float32", compute="bf16")
"""Without quantization, so that sums in another order choose no other token."""

GREEDY = DecodingSettings(max_new_tokens=12)
BEAMS = DecodingSettings(max_new_tokens=12, num_beams=3, length_penalty=0.7)
PENALISED = DecodingSettings(max_new_tokens=12, repetition_penalty=1.5)


@pytest.fixture(scope="module")
def model(tiny_manifest: Path) -> PreTrainedModel:
    return load_for_generation(tiny_manifest, None, FLOAT32)


@pytest.fixture
def builder(tiny_manifest: Path) -> PromptBuilder:
    return PromptBuilder(load_tokenizer(tiny_manifest), PromptSettings("plain", "요약", 200, None, ()))


@pytest.fixture(scope="module")
def dialogues() -> list[str]:
    """Seven dialogues of different lengths, neither sorted nor the longest first."""
    texts = read_table(SAMPLE / "dev.csv", "dev")["dialogue"].tolist()
    return [text[:length] for text, length in zip(texts, [60, 150, 30, 200, 80, 45, 120], strict=False)]


def generate_alone(
    model: PreTrainedModel, builder: PromptBuilder, dialogue: str, settings: DecodingSettings
) -> list[int]:
    """What transformers itself writes for one prompt."""
    ids = torch.tensor([builder.prompt_ids(dialogue)])
    with torch.inference_mode():
        output = model.generate(
            input_ids=ids,
            max_new_tokens=settings.max_new_tokens,
            num_beams=settings.num_beams,
            length_penalty=settings.length_penalty,
            repetition_penalty=settings.repetition_penalty,
            eos_token_id=builder.stop_id,
            pad_token_id=builder.pad_id,
        )
    written: list[int] = output[0, ids.shape[1] :].tolist()
    return written


def decode(builder: PromptBuilder, written: Sequence[int]) -> str:
    return process(builder.tokenizer.decode(written, skip_special_tokens=True))


@pytest.mark.parametrize("settings", [GREEDY, BEAMS, PENALISED], ids=["greedy", "beams", "penalised"])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_give_in_order_what_each_dialogue_gives_alone(
    settings: DecodingSettings, batch_size: int, model: PreTrainedModel, builder: PromptBuilder, dialogues: list[str]
) -> None:
    assert len({len(builder.prompt_ids(dialogue)) for dialogue in dialogues}) > 4
    alone = [decode(builder, generate_alone(model, builder, dialogue, settings)) for dialogue in dialogues]
    assert len(set(alone)) > 4
    assert summarize(model, builder, dialogues, settings, batch_size=batch_size, label="test") == alone


def test_no_dialogues_no_summaries(model: PreTrainedModel, builder: PromptBuilder) -> None:
    assert summarize(model, builder, [], GREEDY, batch_size=4, label="test") == []


@pytest.mark.parametrize("pad", ["<pad>", "a"])
def test_a_summary_ends_before_the_stop_token(
    pad: str, model: PreTrainedModel, builder: PromptBuilder, dialogues: list[str]
) -> None:
    """Also where the model pads with an ordinary token: what pads a row that has ended is no part of it."""
    written = [generate_alone(model, builder, dialogue, GREEDY) for dialogue in dialogues]
    # The stop token is one that the first row writes late and not all rows write.
    stop = written[0][-1]
    stopped = [ids[: ids.index(stop)] if stop in ids else ids for ids in written]
    assert len({len(ids) for ids in stopped}) > 1
    assert stopped != written

    tokenizer = builder.tokenizer
    stopping = PromptBuilder(tokenizer, PromptSettings("plain", "요약", 200, tokenizer.convert_ids_to_tokens(stop), ()))
    stopping.pad_id = tokenizer.convert_tokens_to_ids(pad)
    summaries = summarize(model, stopping, dialogues, GREEDY, batch_size=4, label="test")
    assert summaries == [decode(builder, ids) for ids in stopped]


def test_nothing_is_taken_from_the_checkpoints_own_generation_settings(
    model: PreTrainedModel, builder: PromptBuilder, dialogues: list[str], tiny_checkpoint: Path, tmp_path: Path
) -> None:
    shutil.copytree(tiny_checkpoint, tmp_path / "tiny")
    (tmp_path / "tiny/generation_config.json").write_text(
        json.dumps(
            {
                "do_sample": True,
                "temperature": 5.0,
                "top_k": 50,
                "num_beams": 2,
                "repetition_penalty": 1.9,
                "no_repeat_ngram_size": 1,
                "suppress_tokens": list(range(3, 500)),
                "min_new_tokens": 20,
                "eos_token_id": list(range(3, 1024, 2)),
            }
        ),
        encoding="utf-8",
    )
    write_json(tmp_path / "base.json", {"name": "tiny", "source": "local", "path": str(tmp_path / "tiny")})
    odd = load_for_generation(tmp_path / "base.json", None, FLOAT32)
    summaries = summarize(odd, builder, dialogues, GREEDY, batch_size=4, label="test")
    assert summaries == summarize(model, builder, dialogues, GREEDY, batch_size=4, label="test")


def test_settings_that_differ_in_the_length_penalty_share_a_search(
    model: PreTrainedModel, builder: PromptBuilder, dialogues: list[str]
) -> None:
    settings = [DecodingSettings(12, 3, penalty) for penalty in (-1.0, 0.7, 3.0)] + [DecodingSettings(12)]
    found = TransformersWriter(model, builder).best(dialogues, settings)
    assert [[process(text) for text in texts] for texts in found] == [
        summarize(model, builder, dialogues, each, batch_size=4, label="test") for each in settings
    ]


def test_samples_are_the_same_in_any_batch(
    model: PreTrainedModel, builder: PromptBuilder, dialogues: list[str]
) -> None:
    writer, sampling = TransformersWriter(model, builder), Sampling(count=11, temperature=0.9, seed=7)
    together = writer.samples(dialogues, GREEDY, sampling, Limits(16))
    assert [writer.samples([dialogue], GREEDY, sampling, Limits(16))[0] for dialogue in dialogues] == together
    longest_first = sorted(range(len(dialogues)), key=lambda row: -len(builder.prompt_ids(dialogues[row])))
    in_turn = writer.samples([dialogues[row] for row in longest_first], GREEDY, sampling, Limits(2))
    assert in_turn == [together[row] for row in longest_first]
    assert all(len(set(texts)) == 11 for texts in together)
    assert writer.samples(dialogues, GREEDY, Sampling(11, 0.9, 8), Limits(16)) != together
    assert [texts[3:] for texts in writer.candidates(dialogues, BEAMS, sampling)] == together


@pytest.mark.parametrize("settings", [GREEDY, BEAMS], ids=["greedy", "beams"])
def test_what_is_shown_of_a_summary_under_way_is_how_it_begins(
    settings: DecodingSettings, model: PreTrainedModel, builder: PromptBuilder, dialogues: list[str]
) -> None:
    shown: list[str] = []
    writer = TransformersWriter(model, builder)
    summary = writer.watched(dialogues[0], settings, shown.append)
    assert summary == writer.candidates(dialogues[:1], settings)[0][0]
    assert all(summary.startswith(text.rstrip("\ufffd")) for text in shown)
    assert len(shown) == 12


@pytest.mark.parametrize("beams", [1, 3])
def test_lengths_relative_to_the_dialogue(
    beams: int, model: PreTrainedModel, builder: PromptBuilder, dialogues: list[str]
) -> None:
    def lengths(settings: DecodingSettings) -> list[int]:
        ids = [builder.prompt_ids(dialogue) for dialogue in dialogues]
        prompts = read_prompts(model, ids, read_prefix(model, []), beams * 12)
        searches: list[Search] = []
        for count in tokens:
            end = ending(settings, builder.stop_id, count, builder.tokenizer.decode)
            searches.append(BeamSearch(end, beams, [1.0]) if beams > 1 else Greedy(end))
        decode_all(model, prompts, searches, settings)
        return [len(search.results()[0][0].ids) for search in searches]

    tokens = [len(builder.tokenizer(dialogue, add_special_tokens=False)["input_ids"]) for dialogue in dialogues]
    most = DecodingSettings(12, beams, max_length=0.1)
    assert lengths(most) == [min(max(1, round(0.1 * n)), 12) for n in tokens]

    # A stop token that every summary soon writes, unless it may not yet.
    builder.stop_id = generate_alone(model, builder, dialogues[0], GREEDY)[2]
    free, least = lengths(DecodingSettings(12, beams)), lengths(DecodingSettings(12, beams, min_length=0.1))
    assert beams > 1 or min(free) < 3
    assert all(length >= min(round(0.1 * n), 11) for length, n in zip(least, tokens, strict=True))


def test_no_batch_holds_more_tokens_than_allowed() -> None:
    lengths = [90, 10, 20, 50, 30, 40]
    assert batches(lengths, room=10, limits=Limits(rows=3, tokens=110)) == [[0], [3], [5, 4], [2, 1]]
    assert batches(lengths, room=10, limits=Limits(rows=1)) == [[0], [3], [5], [4], [2], [1]]


@pytest.mark.parametrize("beams", [1, 3])
def test_a_prompt_that_waits_begins_once_another_is_done(
    beams: int, model: PreTrainedModel, builder: PromptBuilder, dialogues: list[str]
) -> None:
    """Not once all of a batch are: the steps are those of the place that is busy longest."""
    ids = sorted(map(builder.prompt_ids, dialogues), key=len, reverse=True)
    lengths = [9, 2, 3, 2, 1, 12, 4]
    ends = [Ending(-1, 0, length, length) for length in lengths]

    def searches() -> list[Search]:
        return [BeamSearch(end, beams, [1.0]) if beams > 1 else Greedy(end) for end in ends]

    def results(of: Sequence[Search]) -> list[list[int]]:
        return [search.results()[0][0].ids for search in of]

    prefix = read_prefix(model, shared_prefix(ids))
    together = searches()
    settings = DecodingSettings(12, beams)
    decode_all(model, read_prompts(model, ids, prefix, beams * 12), together, settings)
    in_turn, steps = searches(), []
    waiting = zip(ids[2:], in_turn[2:], strict=True)
    prompts = read_prompts(model, ids[:2], prefix, beams * 12)
    decode_all(model, prompts, in_turn[:2], settings, waiting=waiting, watch=lambda: steps.append(len(steps)))
    assert results(in_turn) == results(together)
    assert [len(found) for found in results(in_turn)] == lengths
    # The second place takes the summaries of 2, 3, 2, 1 and 12 tokens, the first place those of 9 and 4. A token is
    # chosen in a step or, the first, after reading the prompt; the other place waits while one is read.
    assert len(steps) == 20 + 1


def test_a_prefix_that_all_prompts_share_is_read_once(
    model: PreTrainedModel, tiny_manifest: Path, dialogues: list[str]
) -> None:
    """Few-shot examples in every prompt change what is read, and not what is written."""
    example = Example("one", "#Person1#: 안녕하세요.\n#Person2#: 반갑습니다.", "둘은 인사합니다.")
    builder = PromptBuilder(load_tokenizer(tiny_manifest), PromptSettings("plain", "요약", 400, None, (example,)))
    read: list[int] = []
    hook = model.register_forward_pre_hook(
        lambda _, args, kwargs: read.append(kwargs["input_ids"].numel()), with_kwargs=True
    )
    summaries = summarize(model, builder, dialogues, DecodingSettings(1), batch_size=2, label="test")
    hook.remove()
    prompts = [builder.prompt_ids(dialogue) for dialogue in dialogues]
    prefix = len(shared_prefix(prompts))
    assert prefix > 40
    assert read[0] == prefix
    assert sum(read[1:]) < sum(len(prompt) - prefix for prompt in prompts) * 1.5
    assert summaries == [
        decode(builder, generate_alone(model, builder, text, DecodingSettings(1))) for text in dialogues
    ]


def test_a_sliding_window_is_kept(builder: PromptBuilder, dialogues: list[str]) -> None:
    """Also where layers of two kinds take turns, and a prompt is longer than the window."""
    set_seed(0)
    config = Gemma3TextConfig(
        vocab_size=1024,
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        sliding_window=16,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
    )
    gemma = Gemma3ForCausalLM(config).eval()
    for settings in (GREEDY, BEAMS):
        alone = [decode(builder, generate_alone(gemma, builder, dialogue, settings)) for dialogue in dialogues]
        assert summarize(gemma, builder, dialogues, settings, batch_size=4, label="test") == alone


def test_a_spelled_special_token_counts_as_the_text_that_it_is(model: PreTrainedModel, builder: PromptBuilder) -> None:
    dialogue = "#Person1#: " + "</s>" * 40
    [end] = TransformersWriter(model, builder)._endings([dialogue], DecodingSettings(96, min_length=0.2))
    assert end.least == round(0.2 * len(builder.encoder.encode(dialogue))) >= round(0.2 * 3 * 40)


def test_attention_is_left_as_it_was(model: PreTrainedModel, builder: PromptBuilder) -> None:
    before = model.config._attn_implementation
    summarize(model, builder, ["#Person1#: 안녕"], GREEDY, batch_size=4, label="test")
    assert model.config._attn_implementation == before
