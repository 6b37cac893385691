from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, processors
from transformers import PreTrainedTokenizerFast
from transformers.utils import chat_template_utils

from stages.core.errors import UserError
from stages.core.params import read_yaml
from stages.corpus.dialogue import Turn, parse_turns, render_turns
from stages.layers.packed_rows import IGNORED, TrainingRow
from stages.models.prompt import Example, PromptBuilder, PromptSettings, choose_examples
from stages.models.registry import PromptStyle, read_entry

ROOT = Path(__file__).parents[2]

PAD, BOS, EOS, STOP = range(4)
BYTE_0 = 4
"""A text's ids are its UTF-8 bytes, each this much higher."""

BEFORE, AFTER = "요약하세요.\n\n### 대화\n", "\n\n### 요약\n"
"""What a plain prompt without examples puts around the dialogue."""

# What the templates of Llama 3, Gemma 2 and Qwen 3 come to for a user's and an assistant's turns.
LLAMA = (
    "{{ bos_token }}{% for m in messages %}<|{{ m.role }}|>\n\n{{ m.content }}<stop>{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n\n{% endif %}"
)
GEMMA = (
    "{{ bos_token }}{% for m in messages %}<turn>{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content }}<stop>\n{% endfor %}{% if add_generation_prompt %}<turn>model\n{% endif %}"
)
QWEN = (
    "{% for m in messages %}<im>{{ m.role }}\n"
    "{% if loop.last and m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}{{ m.content }}<stop>\n{% endfor %}"
    "{% if add_generation_prompt %}<im>assistant\n"
    "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}{% endif %}"
)
THINK = (
    "{% for m in messages %}<im>{{ m.role }}\n{{ m.content }}<stop>\n{% endfor %}"
    "{% if add_generation_prompt %}<im>assistant{{ '' if skip_reasoning else '/think' }}\n{% endif %}"
)


def byte_tokenizer(
    template: str | None = None, *, adds: str = "<s> $A", pad: str | None = "<pad>", eos: str | None = "</s>"
) -> PreTrainedTokenizerFast:
    """A tokenizer with one token a byte, which puts `adds` around a text that is tokenized with special tokens."""
    specials = ["<pad>", "<s>", "</s>", "<stop>"]
    names = [*specials, *(f"<0x{byte:02X}>" for byte in range(256))]
    vocabulary = {name: index for index, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], byte_fallback=True))
    tokenizer.add_special_tokens(specials)
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    tokenizer.post_processor = processors.TemplateProcessing(
        single=adds, special_tokens=[(name, vocabulary[name]) for name in specials]
    )
    fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, pad_token=pad, bos_token="<s>", eos_token=eos)
    fast.chat_template = template
    return fast


def byte_ids(text: str) -> list[int]:
    return [byte + BYTE_0 for byte in text.encode()]


def settings(
    style: PromptStyle = "plain", *, max_tokens: int = 2048, stop: str | None = None, n: int = 0
) -> PromptSettings:
    examples = tuple(Example(f"train_{i}", f"#Person1#: 예{i}", f"예{i}입니다.") for i in range(n))
    return PromptSettings(style, "요약하세요.", max_tokens, stop, examples)


def dialogue_in(builder: PromptBuilder, ids: list[int]) -> str:
    """The dialogue that a plain prompt without examples holds."""
    text: str = builder.tokenizer.decode(ids, skip_special_tokens=True)
    assert text.startswith(BEFORE)
    assert text.endswith(AFTER)
    return text[len(BEFORE) : -len(AFTER)]


def test_token_ids_of_a_plain_prompt() -> None:
    builder = PromptBuilder(byte_tokenizer(), settings())
    text = "요약하세요.\n\n### 대화\n#Person1#: 안녕\n#Person2#: 네\n\n### 요약\n"
    assert builder.prompt_ids("#Person1#: 안녕\n#Person2#: 네") == [BOS, *byte_ids(text)]
    assert builder.completion_ids("인사합니다.") == [*byte_ids("인사합니다."), EOS]


def test_token_ids_of_a_chat_prompt() -> None:
    builder = PromptBuilder(byte_tokenizer(LLAMA), settings("chat", stop="<stop>"))
    user, assistant = byte_ids("<|user|>\n\n요약하세요.\n\n#Person1#: 안녕"), byte_ids("<|assistant|>\n\n")
    assert builder.prompt_ids("#Person1#: 안녕") == [BOS, *user, STOP, *assistant]
    assert builder.completion_ids("인사합니다.") == [*byte_ids("인사합니다."), STOP]


def test_examples_come_before_the_dialogue() -> None:
    plain = PromptBuilder(byte_tokenizer(), settings(n=2))
    assert plain.tokenizer.decode(plain.prompt_ids("#Person1#: 안녕"), skip_special_tokens=True) == (
        "요약하세요.\n\n"
        "### 대화\n#Person1#: 예0\n\n### 요약\n예0입니다.\n\n"
        "### 대화\n#Person1#: 예1\n\n### 요약\n예1입니다.\n\n"
        "### 대화\n#Person1#: 안녕\n\n### 요약\n"
    )
    chat = PromptBuilder(byte_tokenizer(LLAMA), settings("chat", n=1))
    assert chat.tokenizer.decode(chat.prompt_ids("#Person1#: 안녕")) == (
        "<s><|user|>\n\n요약하세요.\n\n#Person1#: 예0<stop><|assistant|>\n\n예0입니다.<stop>"
        "<|user|>\n\n요약하세요.\n\n#Person1#: 안녕<stop><|assistant|>\n\n"
    )


@pytest.mark.parametrize("name", read_yaml(ROOT / "models.yaml"))
@pytest.mark.parametrize("n", [0, 2])
def test_generation_sees_what_training_saw_with_every_model_of_the_registry(name: str, n: int) -> None:
    entry = read_entry(name, ROOT / "models.yaml")
    template = QWEN if name.startswith("qwen") else GEMMA if name.startswith("gemma") else LLAMA
    tokenizer = byte_tokenizer(template if entry.prompt == "chat" else None)
    if entry.stop_token:
        tokenizer.add_special_tokens({"additional_special_tokens": [entry.stop_token]})
    builder = PromptBuilder(tokenizer, settings(entry.prompt, stop=entry.stop_token, n=n))
    prompt, completion = builder.prompt_ids("#Person1#: 안녕\n#Person2#: 네"), builder.completion_ids("인사합니다.")
    row = TrainingRow(prompt, completion)

    assert row.input_ids[: len(prompt)] == prompt
    assert row.input_ids[len(prompt) :] == completion
    assert row.labels == [IGNORED] * len(prompt) + completion
    stop = tokenizer.convert_tokens_to_ids(entry.stop_token or "</s>")
    assert row.labels[-1] == stop
    assert row.labels.count(stop) == 1
    if entry.prompt == "chat" and n == 0:
        # It is also the beginning of what the template itself makes of the whole conversation.
        question = {"role": "user", "content": "요약하세요.\n\n#Person1#: 안녕\n#Person2#: 네"}
        answer = {"role": "assistant", "content": "인사합니다."}
        whole = tokenizer.apply_chat_template([question, answer], tokenize=False)
        assert whole.startswith(tokenizer.decode(row.input_ids[:-1]))


@pytest.mark.parametrize(("style", "template"), [("plain", None), ("chat", LLAMA), ("chat", GEMMA)])
def test_a_text_begins_with_one_bos(style: PromptStyle, template: str | None) -> None:
    ids = PromptBuilder(byte_tokenizer(template), settings(style)).prompt_ids("#Person1#: 안녕")
    assert ids[0] == BOS
    assert ids.count(BOS) == 1


def test_a_prompt_does_not_end_where_the_tokenizer_closes_each_text() -> None:
    ids = PromptBuilder(byte_tokenizer(adds="<s> $A </s>"), settings()).prompt_ids("#Person1#: 안녕")
    assert ids[-1] == byte_ids("\n")[0]
    assert EOS not in ids


@pytest.mark.parametrize(("template", "end"), [(QWEN, "<think>\n\n</think>\n\n"), (THINK, "")])
def test_a_model_is_told_not_to_think(template: str, end: str) -> None:
    builder = PromptBuilder(byte_tokenizer(template), settings("chat", stop="<stop>"))
    assert builder.tokenizer.decode(builder.prompt_ids("#Person1#: 안녕")) == (
        f"<im>user\n요약하세요.\n\n#Person1#: 안녕<stop>\n<im>assistant\n{end}"
    )


LLAMA_3_2 = LLAMA.replace("{{ bos_token }}", "{{ bos_token }}Today Date: {{ strftime_now('%d %b %Y') }}\n\n")


def test_today_is_a_setting_to_a_template(monkeypatch: pytest.MonkeyPatch) -> None:
    class NoClock(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            raise AssertionError("a template asked for the time")

    monkeypatch.setattr(chat_template_utils, "datetime", NoClock)
    tokenizer = byte_tokenizer(LLAMA_3_2)
    for date, shown in (("2024-07-26", "26 Jul 2024"), ("2031-01-02", "02 Jan 2031")):
        builder = PromptBuilder(tokenizer, replace(settings("chat"), date=date))
        assert tokenizer.decode(builder.prompt_ids("#Person1#: 안녕")) == (
            f"<s>Today Date: {shown}\n\n<|user|>\n\n요약하세요.\n\n#Person1#: 안녕<stop><|assistant|>\n\n"
        )
    assert tokenizer.chat_template == LLAMA_3_2


def test_padding_is_neither_learned_nor_written() -> None:
    def pad_id(pad: str | None) -> int:
        return PromptBuilder(byte_tokenizer(pad=pad), settings()).pad_id

    assert pad_id("<pad>") == PAD
    assert pad_id(None) == BOS
    assert pad_id("</s>") == BOS


turns = st.builds(
    Turn,
    st.sampled_from(["#Person1#", "#Person2#", "#Person3#"]),
    st.lists(st.text("가나다라abc", min_size=1, max_size=12), min_size=1, max_size=6).map(" ".join),
)


@given(st.lists(turns, min_size=1, max_size=8), st.integers(80, 300))
def test_turns_go_from_the_middle_until_the_prompt_fits(dialogue: list[Turn], max_tokens: int) -> None:
    builder = PromptBuilder(byte_tokenizer(), settings(max_tokens=max_tokens))
    room = max_tokens - len([BOS, *byte_ids(BEFORE + AFTER)])
    ids = builder.prompt_ids(render_turns(dialogue))
    assert len(ids) <= max_tokens
    kept = parse_turns(dialogue_in(builder, ids))
    assert builder.is_truncated(render_turns(dialogue)) == (kept != dialogue)

    def outer(n: int) -> list[Turn]:
        return [*dialogue[: n - n // 2], *dialogue[len(dialogue) - n // 2 :]]

    def size(turns: list[Turn]) -> int:
        return len(render_turns(turns).encode())

    if kept == outer(len(kept)):
        assert len(kept) == len(dialogue) or size(outer(len(kept) + 1)) > room
    else:
        # Not even the first turn fits: its opening stands for it.
        assert size(dialogue[:1]) > room
        assert [turn.speaker for turn in kept] == [dialogue[0].speaker]
        words, first = dialogue[0].text.split(), kept[0].text.split()
        if len(first) > 1 or first[0] == words[0]:
            assert first == words[: len(first)]
            assert size([Turn(kept[0].speaker, " ".join(words[: len(first) + 1]))]) > room
        else:
            assert words[0].startswith(first[0])
            assert size([Turn(kept[0].speaker, words[0][: len(first[0]) + 1])]) > room


def test_a_summary_is_never_cut() -> None:
    builder = PromptBuilder(byte_tokenizer(), settings(max_tokens=80))
    summary = "길다. " * 500
    assert builder.completion_ids(summary) == [*byte_ids(summary), EOS]


def test_the_opening_of_one_enormous_turn_is_kept_whole_words_and_masks() -> None:
    builder = PromptBuilder(byte_tokenizer(), settings(max_tokens=120))
    text = "번호는 #PhoneNumber#이고 " + "아주 긴 이야기입니다 " * 20_000
    kept = dialogue_in(builder, builder.prompt_ids(f"#Person1#: {text}"))
    assert kept == "#Person1#: 번호는 #PhoneNumber#이고 아주 긴 이야기입니다 아주"
    shorter = PromptBuilder(byte_tokenizer(), settings(max_tokens=80))
    assert dialogue_in(shorter, shorter.prompt_ids(f"#Person1#: {text}")) == "#Person1#: 번호는"


def test_a_word_longer_than_the_room_is_cut() -> None:
    builder = PromptBuilder(byte_tokenizer(), settings(max_tokens=90))
    kept = dialogue_in(builder, builder.prompt_ids("#Person1#: " + "가" * 100_000))
    assert kept == "#Person1#: " + "가" * 12


def test_an_enormous_turn_in_the_middle_goes_and_the_others_stay() -> None:
    builder = PromptBuilder(byte_tokenizer(), settings(max_tokens=120))
    dialogue = "#Person1#: 안녕\n#Person2#: " + "가" * 5000 + "\n#Person1#: 네"
    assert dialogue_in(builder, builder.prompt_ids(dialogue)) == "#Person1#: 안녕\n#Person1#: 네"


def test_no_room_for_a_dialogue() -> None:
    builder = PromptBuilder(byte_tokenizer(), settings(max_tokens=64, n=1))
    with pytest.raises(UserError) as error:
        builder.prompt_ids("#Person1#: 안녕")
    assert str(error.value) == (
        "params.yaml: prompt.max_tokens = 64: instruction and few-shot examples alone take 98 tokens; "
        "raise it, or lower prompt.few_shot"
    )


def test_examples_are_drawn_by_seed() -> None:
    rows = [Example(f"train_{i}", f"#Person1#: {i}", f"{i}.") for i in range(20)]
    chosen = choose_examples(rows, 4, 1)
    assert len(set(chosen)) == 4
    assert set(chosen) <= set(rows)
    assert chosen == choose_examples(rows, 4, 1)
    assert chosen != choose_examples(rows, 4, 2)
    assert choose_examples(rows, 0, 1) == ()


def test_examples_leave_a_row_to_train_on() -> None:
    rows = [Example(f"train_{i}", f"#Person1#: {i}", f"{i}.") for i in range(3)]
    with pytest.raises(UserError) as error:
        choose_examples(rows, 3, 1)
    assert str(error.value) == "params.yaml: prompt.few_shot = 3: the table has 3 original rows; take fewer"


@pytest.mark.parametrize(
    ("tokenizer", "chosen", "message"),
    [
        (byte_tokenizer(), settings(stop="<end>"), "stop_token = '<end>': the tokenizer has no such token"),
        (byte_tokenizer(eos=None), settings(), "stop_token = None: the tokenizer has no such token"),
        (byte_tokenizer(), settings("chat"), "prompt = 'chat': the tokenizer has no chat template; use plain"),
        (
            byte_tokenizer("{{ [1, 2] | random }}"),
            settings("chat"),
            "prompt = 'chat': the tokenizer's chat template writes something else each time ('| random'); use plain",
        ),
        (
            byte_tokenizer("{{ raise_exception('a system message has to come first') }}"),
            settings("chat"),
            "prompt = 'chat': the tokenizer's chat template fails: a system message has to come first; use plain",
        ),
        (
            byte_tokenizer("{{ messages[0].content + 1 }}"),
            settings("chat"),
            "prompt = 'chat': the tokenizer's chat template fails: can only concatenate str "
            '(not "int") to str; use plain',
        ),
        (
            byte_tokenizer("{% for m in messages %}{% for part in m.content %}{{ part.text }}{% endfor %}{% endfor %}"),
            settings("chat"),
            "prompt = 'chat': the tokenizer's chat template leaves the dialogue out, as one does that wants "
            "messages in parts; use plain",
        ),
    ],
)
def test_a_registry_entry_that_does_not_suit_its_tokenizer(
    tokenizer: PreTrainedTokenizerFast, chosen: PromptSettings, message: str
) -> None:
    with pytest.raises(UserError) as error:
        PromptBuilder(tokenizer, chosen)
    assert str(error.value) == f"models.yaml: {message}"


def test_settings_are_kept_beside_the_adapter(tmp_path: Path) -> None:
    chosen = settings("chat", max_tokens=512, stop="<stop>", n=1)
    chosen.save(tmp_path)
    assert json.loads((tmp_path / "prompt.json").read_text(encoding="utf-8")) == {
        "style": "chat",
        "instruction": "요약하세요.",
        "max_tokens": 512,
        "stop_token": "<stop>",
        "examples": [{"fname": "train_0", "dialogue": "#Person1#: 예0", "summary": "예0입니다."}],
        "date": "2024-07-26",
    }
    assert "요약하세요." in (tmp_path / "prompt.json").read_text(encoding="utf-8")
    assert PromptSettings.load(tmp_path) == chosen


def test_settings_of_an_earlier_adapter(tmp_path: Path) -> None:
    settings("chat", n=1).save(tmp_path)
    file = tmp_path / "prompt.json"
    values = json.loads(file.read_text(encoding="utf-8"))
    del values["date"]
    file.write_text(json.dumps(values), encoding="utf-8")
    assert PromptSettings.load(tmp_path) == settings("chat", n=1)


def test_an_adapter_with_a_style_that_is_not_there() -> None:
    with pytest.raises(UserError) as error:
        PromptBuilder(byte_tokenizer(), settings("xml"))
    assert str(error.value) == "prompt.json: style = 'xml': allowed: plain, chat"
