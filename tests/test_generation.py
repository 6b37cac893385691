from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from transformers import PreTrainedModel

from stages.common.files import write_json
from stages.common.generation import DecodingSettings, summarise, tidy
from stages.common.model import load_for_generation, load_tokenizer
from stages.common.params import Quantization
from stages.common.prompt import PromptBuilder, PromptSettings
from stages.common.tables import read_table
from tests.tiny import SAMPLE

FLOAT32 = Quantization(load_in_4bit=False, type="nf4", double_quant=True, compute_dtype="float32")
"""Without quantisation, so that sums in another order choose no other token."""

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
    return tidy(builder.tokenizer.decode(written, skip_special_tokens=True))


@pytest.mark.parametrize("settings", [GREEDY, BEAMS, PENALISED], ids=["greedy", "beams", "penalised"])
@pytest.mark.parametrize("batch_size", [1, 3, 16])
def test_batches_give_in_order_what_each_dialogue_gives_alone(
    settings: DecodingSettings, batch_size: int, model: PreTrainedModel, builder: PromptBuilder, dialogues: list[str]
) -> None:
    assert len({len(builder.prompt_ids(dialogue)) for dialogue in dialogues}) > 4
    alone = [decode(builder, generate_alone(model, builder, dialogue, settings)) for dialogue in dialogues]
    assert len(set(alone)) > 4
    assert summarise(model, builder, dialogues, settings, batch_size=batch_size, label="test") == alone


def test_no_dialogues_no_summaries(model: PreTrainedModel, builder: PromptBuilder) -> None:
    assert summarise(model, builder, [], GREEDY, batch_size=4, label="test") == []


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
    summaries = summarise(model, stopping, dialogues, GREEDY, batch_size=4, label="test")
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
    summaries = summarise(odd, builder, dialogues, GREEDY, batch_size=4, label="test")
    assert summaries == summarise(model, builder, dialogues, GREEDY, batch_size=4, label="test")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("#Person1#은 웃습니다.", "#Person1#은 웃습니다."),
        ("  #Person1#은\n웃습니다.\n\n", "#Person1#은 웃습니다."),
        (
            "#Person1# 은 #Person2# 를 만나고 #Person12# 에게 갑니다.",
            "#Person1#은 #Person2#를 만나고 #Person12#에게 갑니다.",
        ),
        ("#Person1# 은행에 갑니다.", "#Person1# 은행에 갑니다."),
        ("#Person1# 가게에 갑니다.", "#Person1# 가게에 갑니다."),
        ("#PhoneNumber# 는 번호입니다.", "#PhoneNumber# 는 번호입니다."),
        ("그것은 #Person2# 의", "그것은 #Person2#의"),
        ("<think>\n\n</think>\n\n둘은 만납니다.", "둘은 만납니다."),
        ("<think>먼저 읽자.\n그다음</think>둘은 만납니다.<think>끝</think>", "둘은 만납니다."),
        ("<think>끝나지 않은 생각", ""),
        ("누가 올까? 아무도 모릅니다.", "누가 올까? 아무도 모릅니다."),
        ("", ""),
    ],
)
def test_tidy(text: str, expected: str) -> None:
    assert tidy(text) == expected
    assert tidy(tidy(text)) == expected
