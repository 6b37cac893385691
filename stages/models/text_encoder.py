"""Turns texts into token ids and back, so that a text that spells a special token stays text.

A tokenizer finds its special tokens by their spelling. Where somebody wrote `</s>` or `<|im_end|>` in a dialogue, the
model would read the end of a text, and a summary with it would teach the model to stop there. `split_special_tokens` of
transformers is not enough: it leaves added tokens that are not marked as special, does nothing for a text inside a chat
template, and a vocabulary may hold the spelling as a piece.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any

from tokenizers import AddedToken, Tokenizer
from transformers import PreTrainedTokenizerBase

from stages.core.errors import UserError
from stages.corpus.dialogue import MASK_OR_SPEAKER
from stages.corpus.thinking import TAGS
from stages.models.chat_template import refuse_chance, with_date

_MARKUP = re.compile(r"[<\[{(◁].*[>\]})▷]", re.DOTALL)
# Two characters that Unicode keeps out of texts.
_QUOTE = "\ufdd0"
_ALIAS = "\ufdd1"
WITHOUT_THINKING = {"enable_thinking": False, "skip_reasoning": True}
"""What templates call it: Qwen 3 and EXAONE 4 the first, HyperCLOVA X Think the second; others ignore both."""
_IMPOSSIBLE = str.maketrans(dict.fromkeys(_QUOTE + _ALIAS, "\ufffd"))


class TextEncoder:
    """Encodes and decodes with one tokenizer.

    Texts that spell no special token get the ids that the tokenizer itself gives them.

    Args:
        stop_token: ends a summary, and is spelled by no text, of whatever form it is.

    Raises:
        UserError: the tokenizer is none of the library `tokenizers`.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerBase, stop_token: str | None = None) -> None:
        if not tokenizer.is_fast:
            raise UserError(
                f"models.yaml: {type(tokenizer).__name__}: not of the library `tokenizers`, which alone keeps "
                "texts apart from special tokens; choose a model with a tokenizer.json"
            )
        self.tokenizer = tokenizer
        added: dict[int, AddedToken] = tokenizer.added_tokens_decoder
        controls = {
            token.content: id for id, token in added.items() if _is_control(token) or token.content == stop_token
        }
        self._controls = controls
        self._control_ids = set(controls.values()) - {tokenizer.unk_token_id}
        self._spelling = re.compile("|".join(map(re.escape, sorted(controls, key=len, reverse=True))) or "(?!)")
        thinking = {tag for tags in TAGS for tag in tags}
        self._unwritten = {
            id for id, token in added.items() if token.special and not _is_shown(token.content, thinking)
        }

    def encode(self, text: str, *, closed: bool = False) -> list[int]:
        """The ids of a text; `closed` adds what the tokenizer puts around each text.

        An end token that it puts there is left out: it would end a prompt before the summary.
        """
        ids = self.encode_all([text], closed=closed)[0]
        return ids[:-1] if closed and ids and ids[-1] == self.tokenizer.eos_token_id else ids

    def encode_all(self, texts: Sequence[str], *, closed: bool = False) -> list[list[int]]:
        """The ids of several texts, each for itself."""
        own = self.tokenizer.num_special_tokens_to_add(False) if closed else 0
        rows = self.tokenizer(list(texts), add_special_tokens=closed)["input_ids"]
        return [
            self._encode_literally(text.translate(_IMPOSSIBLE), closed)
            if self._spelling.search(text) or self._count(ids) > own
            else ids
            for text, ids in zip(texts, rows, strict=True)
        ]

    def encode_chat(self, messages: list[dict[str, str]], date: str) -> list[int]:
        """The ids of a conversation in the tokenizer's chat template, up to where the assistant goes on.

        Args:
            date: the day, YYYY-MM-DD, that the template takes for today.

        Raises:
            UserError: there is no template, or it cannot be rendered.
        """
        template = self._template(date)
        text = self._render(messages, template)
        if not any(self._spelling.search(message["content"]) for message in messages):
            # The template writes the special tokens itself, the first one included.
            ids: list[int] = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            if self._count(ids) <= len(self._spelling.findall(text)):
                return ids
        quoted = [{**message, "content": self._quote(message["content"])} for message in messages]
        own = self._spelling.sub(lambda found: _alias(found[0]), self._render(quoted, template))
        return self._encode_literally(own.replace(_QUOTE, ""), False)

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids that a model wrote; special tokens are no text, but for tags around thinking."""
        text: str = self.tokenizer.decode([id for id in ids if id not in self._unwritten])
        return text

    def _template(self, date: str) -> str:
        try:
            template: str = self.tokenizer.get_chat_template()
        except ValueError:
            raise UserError("models.yaml: prompt = 'chat': the tokenizer has no chat template; use plain") from None
        refuse_chance(template)
        return with_date(template, date)

    def _render(self, messages: list[dict[str, str]], template: str) -> str:
        try:
            text: str = self.tokenizer.apply_chat_template(
                messages, chat_template=template, add_generation_prompt=True, tokenize=False, **WITHOUT_THINKING
            )
        except Exception as error:  # a template is a program, and fails by errors of Python too
            raise UserError(
                f"models.yaml: prompt = 'chat': the tokenizer's chat template fails: {error}; use plain"
            ) from None
        return text

    def _quote(self, text: str) -> str:
        """Break each spelling of a special token after its first character, until the template has written its own."""
        if not self._spelling.search(text):
            return text
        begins = re.compile(f"(?=(?:{self._spelling.pattern}))(.)", re.DOTALL)
        return begins.sub(rf"\1{_QUOTE}", text.translate(_IMPOSSIBLE))

    def _count(self, ids: Iterable[int]) -> int:
        return sum(id in self._control_ids for id in ids)

    def _encode_literally(self, text: str, closed: bool) -> list[int]:
        ids: list[int] = self._without_spellings.encode(text, add_special_tokens=closed).ids
        return ids

    @cached_property
    def _without_spellings(self) -> Tokenizer:
        """The tokenizer with its special tokens under names that no text has: seconds of work that few texts need."""
        state = json.loads(self.tokenizer.backend_tokenizer.to_str())
        names = {name: _alias(name) for name in self._controls}
        for token in state["added_tokens"]:
            token["content"] = names.get(token["content"], token["content"])
        _rename(state["model"], names)
        renamed = Tokenizer.from_str(json.dumps(state))
        if any(renamed.token_to_id(_alias(name)) != id for name, id in self._controls.items()):
            raise UserError("models/base.json: the tokenizer's special tokens cannot be told from text; choose another")
        return renamed


def _is_control(token: AddedToken) -> bool:
    """Whether a token of a tokenizer's own is one that a text may not spell.

    Added words and white space are text, and so are tags and masks of the corpus. Single characters serve some
    tokenizers for padding, as `!` does.
    """
    name = token.content
    if len(name) < 2 or name.isspace() or MASK_OR_SPEAKER.fullmatch(name):
        return False
    return bool(token.special or _MARKUP.fullmatch(name))


def _is_shown(name: str, thinking: Iterable[str]) -> bool:
    """Whether a special token stands in the text: as a part of a tag around thinking, or because it is text."""
    return len(name) == 1 or bool(MASK_OR_SPEAKER.fullmatch(name)) or any(name in tag for tag in thinking)


def _alias(name: str) -> str:
    return f"{_ALIAS}{name}{_ALIAS}"


def _rename(model: dict[str, Any], names: dict[str, str]) -> None:
    """Rename pieces of a tokenizer's model, and drop the merges that made them of others."""
    vocabulary = model["vocab"]
    if isinstance(vocabulary, list):  # Unigram's, with scores
        for piece in vocabulary:
            piece[0] = names.get(piece[0], piece[0])
    else:
        model["vocab"] = {names.get(piece, piece): id for piece, id in vocabulary.items()}
    if model.get("unk_token") is not None:
        model["unk_token"] = names.get(model["unk_token"], model["unk_token"])
    if "merges" in model:
        pairs = [merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]]
        model["merges"] = [pair for pair in pairs if names.keys().isdisjoint([*pair, "".join(pair)])]
