"""Summaries of fixed dev samples after each evaluation, as text to read and as scores to log.

They are written by transformers' own greedy `generate`, so that training depends on nothing that decodes for a run.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from transformers import PreTrainedModel

from stages.core.files import write_text
from stages.corpus.spread import spread
from stages.corpus.thinking import without_thinking
from stages.models.prompt import PromptBuilder
from stages.scoring.rouge import morpheme_scores

MEASURED_TOKENS = 8
"""By which the time of a token is measured."""

logger = logging.getLogger(__name__)


class Preview:
    """Summarizes the same `n` dev dialogues each time, spread over the table.

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
        self.max_new_tokens = max_new_tokens
        self.batch_size = batch_size
        self.folder = folder

    def run(self, model: PreTrainedModel, step: int) -> dict[str, float]:
        """Greedy summaries and their ROUGE at morpheme level: rouge1, rouge2, rougeL and final, 0 to 100."""
        if not self.dialogues:
            return {}
        model.eval()
        hypotheses = [
            text
            for start in range(0, len(self.dialogues), self.batch_size)
            for text in greedy(
                model, self.builder, self.dialogues[start : start + self.batch_size], self.max_new_tokens
            )
        ]
        samples = zip(self.fnames, hypotheses, self.references, strict=True)
        text = "\n\n".join(f"## {name}\n\n- {hyp}\n- reference: {refs[0]}" for name, hyp, refs in samples)
        write_text(self.folder / f"step_{step:06d}.md", text + "\n")
        logger.info("\n%s", text)
        return morpheme_scores(hypotheses, self.references).rounded()

    def seconds(self, model: PreTrainedModel) -> float:
        """How long `run` takes once summaries are as long as their references, by the first tokens of a batch."""
        if not self.dialogues:
            return 0.0
        model.eval()
        batches = range(0, len(self.dialogues), self.batch_size)
        few = self.dialogues[: self.batch_size]

        def measured(tokens: int) -> float:
            began = time.perf_counter()
            greedy(model, self.builder, few, tokens, min_new_tokens=tokens)
            return time.perf_counter() - began

        measured(1)  # once for what is allocated or compiled at the first time
        first = measured(1)
        next_one = (measured(1 + MEASURED_TOKENS) - first) / MEASURED_TOKENS
        lengths = [len(self.builder.completion_ids(refs[0])) for refs in self.references]
        longest = [max(lengths[start : start + self.batch_size]) for start in batches]
        return sum(first + next_one * (min(length, self.max_new_tokens) - 1) for length in longest)

    def copy_to(self, folder: Path) -> None:
        """Copy the texts of all evaluations, in `step_NNNNNN.md`."""
        if self.folder.is_dir():
            shutil.copytree(self.folder, folder)


@torch.inference_mode()
def greedy(
    model: PreTrainedModel,
    builder: PromptBuilder,
    dialogues: Sequence[str],
    max_new_tokens: int,
    min_new_tokens: int | None = None,
) -> list[str]:
    """The most likely summary of each dialogue, token by token, as one line."""
    prompts = [builder.prompt_ids(dialogue) for dialogue in dialogues]
    longest = max(map(len, prompts))
    ids = torch.tensor([[builder.pad_id] * (longest - len(prompt)) + prompt for prompt in prompts])
    mask = torch.tensor([[0] * (longest - len(prompt)) + [1] * len(prompt) for prompt in prompts])
    written = model.generate(
        input_ids=ids.to(model.device),
        attention_mask=mask.to(model.device),
        max_new_tokens=max_new_tokens,
        min_new_tokens=min_new_tokens,
        do_sample=False,
        num_beams=1,
        use_cache=True,
        eos_token_id=builder.stop_id,
        pad_token_id=builder.pad_id,
    )[:, longest:].tolist()
    return [" ".join(without_thinking(builder.summary(row)).split()) for row in written]
