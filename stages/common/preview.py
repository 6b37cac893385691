"""Summaries of fixed dev samples after each evaluation, as text to read and as scores to log."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Sequence
from pathlib import Path

from transformers import PreTrainedModel

from stages.common.decoding import DecodingSettings
from stages.common.files import write_text
from stages.common.generation import summarise
from stages.common.prompt import PromptBuilder
from stages.common.rouge import morpheme_scores
from stages.common.sampling import spread

logger = logging.getLogger(__name__)


class Preview:
    """Summarises the same `n` dev dialogues each time, spread over the table.

    The texts are kept beside the checkpoints, so that a resumed training has those of before.
    """

    def __init__(
        self,
        builder: PromptBuilder,
        fnames: Sequence[str],
        dialogues: Sequence[str],
        references: Sequence[Sequence[str]],
        *,
        n: int,
        max_new_tokens: int,
        batch_size: int,
        folder: Path,
    ) -> None:
        rows = spread(len(dialogues), n)
        self.builder = builder
        self.fnames = [fnames[row] for row in rows]
        self.dialogues = [dialogues[row] for row in rows]
        self.references = [references[row] for row in rows]
        self.settings = DecodingSettings(max_new_tokens=max_new_tokens)
        self.batch_size = batch_size
        self.folder = folder

    def run(self, model: PreTrainedModel, step: int) -> dict[str, float]:
        """Greedy summaries and their ROUGE at morpheme level: rouge1, rouge2, rougeL and final, 0 to 100."""
        if not self.dialogues:
            return {}
        model.eval()
        hypotheses = summarise(
            model,
            self.builder,
            self.dialogues,
            self.settings,
            batch_size=self.batch_size,
            label="preview",
        )
        samples = zip(self.fnames, hypotheses, self.references, strict=True)
        text = "\n\n".join(f"## {name}\n\n- {hyp}\n- reference: {refs[0]}" for name, hyp, refs in samples)
        write_text(self.folder / f"step_{step:06d}.md", text + "\n")
        logger.info("\n%s", text)
        return morpheme_scores(hypotheses, self.references).rounded()

    def copy_to(self, folder: Path) -> None:
        """Copy the texts of all evaluations, in `step_NNNNNN.md`."""
        if self.folder.is_dir():
            shutil.copytree(self.folder, folder)
