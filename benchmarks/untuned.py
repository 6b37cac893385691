"""ROUGE of the base model without an adapter, to set beside the tuned one's: `python -m benchmarks.untuned`."""

from __future__ import annotations

from pathlib import Path

from stages.core import paths
from stages.core.params import load_params
from stages.corpus.tables import Split, read_table, references
from stages.engines.settings import DecodingSettings
from stages.models.load import load_for_generation
from stages.models.prompt import PromptBuilder, PromptSettings
from stages.models.tokenizer import load_tokenizer
from stages.scoring.rouge import morpheme_scores, word_scores
from stages.serving.summarize import summarize

SPLITS: tuple[Split, ...] = ("dev", "test")


def main() -> None:
    params = load_params()
    # The prompt that the adapter was trained with, and greedy search.
    builder = PromptBuilder(load_tokenizer(paths.MANIFEST), PromptSettings.load(paths.ADAPTER))
    model = load_for_generation(paths.MANIFEST, None, params.quantization)
    settings = DecodingSettings(max_new_tokens=params.decoding.max_new_tokens)
    for split in SPLITS:
        table = read_table(Path(f"data/checked/{split}.csv"), split)
        dialogues = table["dialogue"].tolist()
        answers = summarize(
            model, builder, dialogues, settings, batch_size=params.decoding.batch_size, label=f"untuned {split}"
        )
        word, morpheme = word_scores(answers, references(table)), morpheme_scores(answers, references(table))
        print(f"{split}: word {word.final:.2f}, morpheme {morpheme.rounded()}")


if __name__ == "__main__":
    main()
