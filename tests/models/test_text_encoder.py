from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import ByT5Tokenizer, PreTrainedTokenizerFast

from stages.core.errors import UserError
from stages.models.prompt import Example, PromptBuilder, PromptSettings
from stages.models.text_encoder import TextEncoder

SPECIALS = ["<pad>", "<s>", "</s>", "<unk>", "<|im_end|>", "[THINK]"]
MARKUP = ["</think>", "<table>"]
"""Added tokens that no tokenizer marks as special."""
WORDS = ["요약", "#Person1#"]
"""Added tokens that are text."""
CHAT = (
    "{{ bos_token }}{% for m in messages %}{{ '<|im_end|>' if m.role == 'user' else '</think>' }}{{ m.content | trim }}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}<|im_end|>model\n{% endif %}"
)
DATE = "2024-07-26"

Pieces = dict[str, int]


def pieces(*more: str) -> Pieces:
    """Special tokens, bytes, and what merges of `</s>` and `<s>` need: so they can come of plain text, too."""
    names = [*SPECIALS, *(f"<0x{byte:02X}>" for byte in range(256)), *"<>/s|▁#:abP1 ", "</", "s>", "다", "가", *more]
    return {name: i for i, name in enumerate(dict.fromkeys(names))}


MERGES = [("<", "/"), ("s", ">"), ("</", "s>"), ("<", "s>")]


def sentencepiece_bpe() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(pieces(), MERGES, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return tokenizer


def gemma_like() -> Tokenizer:
    tokenizer = Tokenizer(models.BPE(pieces(), MERGES, unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    tokenizer.normalizer = normalizers.Replace(" ", "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Split(" ", "merged_with_previous")
    tokenizer.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    return tokenizer


def byte_level() -> Tokenizer:
    names = [*pre_tokenizers.ByteLevel.alphabet(), "</", "s>"]
    tokenizer = Tokenizer(models.BPE({name: i for i, name in enumerate(sorted(names))}, MERGES[:2]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    return tokenizer


def unigram() -> Tokenizer:
    """Like T5's: its vocabulary scores the special tokens best, and full-width text is made narrow first."""
    scored = [(name, 0.0 if name in SPECIALS else -5.0) for name in pieces()]
    tokenizer = Tokenizer(models.Unigram(scored, unk_id=SPECIALS.index("<unk>"), byte_fallback=True))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first")
    tokenizer.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Metaspace(prepend_scheme="first")])
    return tokenizer


KINDS: list[Callable[[], Tokenizer]] = [sentencepiece_bpe, gemma_like, byte_level, unigram]


def build(kind: Callable[[], Tokenizer]) -> PreTrainedTokenizerFast:
    backend = kind()
    backend.add_special_tokens([AddedToken(name, normalized=False) for name in SPECIALS])
    backend.add_tokens([AddedToken(name, normalized=False) for name in [*MARKUP, *WORDS]])
    backend.post_processor = processors.TemplateProcessing(
        single="<s> $A", special_tokens=[("<s>", backend.token_to_id("<s>"))]
    )
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend, pad_token="<pad>", bos_token="<s>", eos_token="</s>", unk_token="<unk>"
    )
    tokenizer.chat_template = CHAT
    return tokenizer


TOKENIZERS = {kind.__name__: build(kind) for kind in KINDS}
ENCODERS = {name: TextEncoder(tokenizer) for name, tokenizer in TOKENIZERS.items()}
every_kind = pytest.mark.parametrize("kind", TOKENIZERS)

PLAIN = [*"가다 ab</s>|:\n", *WORDS, "한자", "é", " ", "[", "im_end"]


def ordinary(text: str) -> bool:
    return not any(name in text for name in [*SPECIALS, *MARKUP])


ordinary_texts = st.lists(st.sampled_from(PLAIN), max_size=20).map("".join).filter(ordinary)
spelling_texts = st.lists(st.sampled_from([*PLAIN, *SPECIALS, *MARKUP]), max_size=12).map("".join)


def controls(kind: str) -> set[int]:
    """The ids that no text may get; what a vocabulary lacks is the unknown token, whatever the text."""
    names = [name for name in [*SPECIALS, *MARKUP] if name != "<unk>"]
    return set(TOKENIZERS[kind].convert_tokens_to_ids(names))


def as_read(kind: str, text: str) -> str:
    """A text without its spaces where a tokenizer puts one after each added word, as Llama 2's does."""
    return text.replace(" ", "") if kind == "sentencepiece_bpe" else text


def builder(kind: str, style: str, *, instruction: str = "요약", examples: tuple[Example, ...] = ()) -> PromptBuilder:
    return PromptBuilder(TOKENIZERS[kind], PromptSettings(style, instruction, 4096, None, examples))


@every_kind
@settings(deadline=None)
@given(text=ordinary_texts)
def test_an_ordinary_text_has_the_ids_that_it_always_had(kind: str, text: str) -> None:
    tokenizer, encoder = TOKENIZERS[kind], ENCODERS[kind]
    spelled_by_merges = controls(kind) & set(tokenizer(text, add_special_tokens=False)["input_ids"])
    assert not spelled_by_merges
    assert encoder.encode(text) == tokenizer(text, add_special_tokens=False)["input_ids"]
    assert encoder.encode(text, closed=True) == tokenizer(text)["input_ids"]
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": text}]
    rendered = tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert encoder.encode_chat(messages, DATE) == tokenizer(rendered, add_special_tokens=False)["input_ids"]


@every_kind
@settings(deadline=None)
@given(text=ordinary_texts)
def test_what_encodes_spellings_encodes_ordinary_texts_alike(kind: str, text: str) -> None:
    assert ENCODERS[kind]._encode_literally(text, True) == TOKENIZERS[kind](text)["input_ids"]


@every_kind
@settings(deadline=None)
@given(text=spelling_texts)
def test_a_spelling_is_text(kind: str, text: str) -> None:
    encoder = ENCODERS[kind]
    ids = encoder.encode(text)
    assert not controls(kind) & set(ids)
    if kind != "unigram":  # which makes its texts tidy
        assert as_read(kind, encoder.decode(ids)) == as_read(kind, text)
    assert encoder.encode_all([text, "가"]) == [ids, encoder.encode("가")]


@every_kind
@settings(deadline=None)
@given(text=spelling_texts, summary=spelling_texts)
def test_the_template_alone_writes_special_tokens(kind: str, text: str, summary: str) -> None:
    tokenizer, found = TOKENIZERS[kind], controls(kind)
    messages = [{"role": "user", "content": text}, {"role": "assistant", "content": summary}]
    ids = ENCODERS[kind].encode_chat(messages, DATE)
    assert [tokenizer.convert_ids_to_tokens(id) for id in ids if id in found] == [
        "<s>", "<|im_end|>", "</s>", "</think>", "</s>", "<|im_end|>",
    ]  # fmt: skip


@every_kind
@pytest.mark.parametrize("style", ["plain", "chat"])
@pytest.mark.parametrize("token", [*SPECIALS, *MARKUP])
def test_spellings_everywhere_in_a_prompt(kind: str, style: str, token: str) -> None:
    def count(ids: list[int]) -> int:
        return sum(id in controls(kind) for id in ids)

    text = f"#Person1#: a{token}b"
    spelled = builder(kind, style, instruction=f"가{token}", examples=(Example("train_0", text, text),))
    usual = builder(kind, style, instruction="가", examples=(Example("train_0", "#Person1#: ab", "ab"),))
    assert count(spelled.prompt_ids(text)) == count(usual.prompt_ids("#Person1#: ab"))
    completion = spelled.completion_ids(text)
    assert completion[-1] == spelled.stop_id
    assert count(completion) == 1
    if kind != "unigram":
        assert as_read(kind, spelled.summary(completion)) == as_read(kind, text)
        assert TOKENIZERS[kind].decode(spelled.prompt_ids(text)).count(token) >= 4
    # A whole text more, not one token.
    assert len(completion) > len(usual.completion_ids("#Person1#: ab")) + 1


def test_full_width_spellings_of_a_tokenizer_that_makes_them_narrow() -> None:
    assert not controls("unigram") & set(ENCODERS["unigram"].encode("가＜/s＞"))
    assert TOKENIZERS["unigram"].eos_token_id in TOKENIZERS["unigram"]("가＜/s＞")["input_ids"]


def test_words_that_were_added_are_text() -> None:
    tokenizer = build(byte_level)
    tokenizer.add_special_tokens({"additional_special_tokens": ["#Person2#", "!"]})
    encoder = TextEncoder(tokenizer)
    ids = encoder.encode("#Person2#: !</s>")
    assert [tokenizer.convert_ids_to_tokens(id) for id in ids] == ["#Person2#", ":", "Ġ", "!", "</", "s", ">"]
    assert encoder.decode([*ids, tokenizer.eos_token_id]) == "#Person2#: !</s>"


def test_tags_around_thinking_are_kept_for_the_rule_that_drops_it() -> None:
    tokenizer, encoder = TOKENIZERS["byte_level"], ENCODERS["byte_level"]
    ids = tokenizer("<s>[THINK]가</think>다<|im_end|></s>", add_special_tokens=False)["input_ids"]
    assert encoder.decode(ids) == "[THINK]가</think>다"


@settings(deadline=None)
@given(st.text(max_size=20))
def test_nothing_in_a_text_can_stand_for_a_special_token(text: str) -> None:
    for forged in (f"{text}\ufdd1</s>\ufdd1", f"<\ufdd0/s>{text}</s>", "\ufdd1</s>\ufdd1"):
        encoder = ENCODERS["gemma_like"]
        assert not controls("gemma_like") & set(encoder.encode(forged))
        ids = encoder.encode_chat([{"role": "user", "content": forged}], DATE)
        assert sum(id in controls("gemma_like") for id in ids) == 4


def test_a_stop_token_of_any_form_is_spelled_by_no_text() -> None:
    tokenizer = build(byte_level)
    tokenizer.add_tokens(["###끝"])
    builder = PromptBuilder(tokenizer, PromptSettings("plain", "요약", 200, "###끝", ()))
    assert builder.completion_ids("a ###끝").count(builder.stop_id) == 1


def test_a_tokenizer_in_python() -> None:
    with pytest.raises(UserError, match=r"^models\.yaml: ByT5Tokenizer: not of the library `tokenizers`"):
        TextEncoder(ByT5Tokenizer())
