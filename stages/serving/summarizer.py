"""Summarizes any dialogue as the last run summarized its own: cleaned, prompted, searched and mended alike."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from stages.cleaning.rule import Rule
from stages.cleaning.rules import clean_dialogue, load_rules
from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import read_json
from stages.core.params import Params
from stages.corpus.dialogue import parse_turns
from stages.corpus.hangul import hangul_share
from stages.corpus.thinking import without_thinking
from stages.decoding.find_adapter import adapter_in_use
from stages.decoding.learned import Reranker
from stages.decoding.postprocess import process
from stages.decoding.predict import predict_all
from stages.engines.load_writers import load_writer
from stages.engines.settings import DecodingSettings
from stages.engines.transformers_writer import TransformersWriter

GROWING = ("thinking", "particles")
"""Rules for a text under way; the others may take back what was shown."""


@dataclass(frozen=True)
class Summarizer:
    """A writer with all that a run's parameters say about its work."""

    writer: TransformersWriter
    settings: DecodingSettings
    params: Params
    rules: Sequence[Rule]
    reranker: Reranker | None = None

    @staticmethod
    def load(params: Params) -> Summarizer:
        """That of the last run.

        Raises:
            UserError: there was none.
        """
        adapter = adapter_in_use(params)
        for path in (paths.MANIFEST, adapter, paths.DECODING):
            if not path.exists():
                raise UserError(f"{path}: not found; run `make repro`, which trains the adapter, first")
        decoding = read_json(paths.DECODING)
        settings = DecodingSettings(**decoding["chosen"])
        reranker = Reranker.of(decoding) if params.decoding.rerank == "learned" else None
        writer = load_writer(params.quantization, merge=False, adapter=adapter)
        return Summarizer(writer, settings, params, load_rules(Path(params.clean.rules)), reranker)

    def clean(self, text: str, where: str) -> str:
        """A dialogue as the model knows it, in whatever form of Unicode it comes.

        Raises:
            UserError: it has no turn; the message begins with `where`.
        """
        settings = self.params.clean
        clean = partial(clean_dialogue, rules=self.rules, fix_spacing=settings.fix_spacing)
        dialogue = clean(unicodedata.normalize("NFC", text))
        if settings.fix_typos:
            from stages.cleaning.typo_pass import fix_typos  # loads a language model, which not every run needs

            [(dialogue, _)] = fix_typos([dialogue], settings.typo_threshold, clean)
        if not any(turn.text for turn in parse_turns(dialogue)):
            raise UserError(f"{where}: no turn; begin each with #Person1#: or #Person2#: on a line of its own")
        return dialogue

    def all(self, dialogues: Sequence[str]) -> list[str]:
        """The summaries of clean dialogues."""
        decoding = self.params.decoding
        answers = predict_all([self.writer], dialogues, self.settings, self.params, "summaries", self.reranker)
        return [process(answer["text"], decoding.postprocess) for answer in answers]

    def stream(self, dialogue: str, show: Callable[[str], None]) -> str:
        """Summarize one clean dialogue, and give `show` each longer beginning of the summary.

        With beams, a beginning is shown once all of them agree on it. Where candidates are reranked, or a summary has
        to be written again, nothing more is shown before it stands.

        Returns:
            The summary; what was shown may differ from it in sentences that were dropped.
        """
        decoding = self.params.decoding
        growing = [name for name in decoding.postprocess if name in GROWING]
        shown = ""

        def grow(text: str) -> None:
            nonlocal shown
            settled = process(_settled(text), growing)
            if len(settled) > len(shown) and settled.startswith(shown):
                shown = settled
                show(settled)

        if decoding.rerank == "none":
            text = self.writer.watched(dialogue, self.settings, grow)
            if hangul_share(without_thinking(text)) >= decoding.min_hangul:
                return process(text, decoding.postprocess)
        return self.all([dialogue])[0]


def _settled(text: str) -> str:
    """Without the last word, which may go on: a character in several tokens, or a tag before its particle."""
    return text[: max(text.rfind(" "), text.rfind("\n"), 0)]
