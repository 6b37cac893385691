"""ROUGE of the base model without an adapter, to set beside the tuned one's: `python -m benchmarks.untuned`."""

from __future__ import annotations

from pathlib import Path

from stages.common.decoding import DecodingSettings
from stages.common.generation import summarise
from stages.common.model import load_for_generation, load_tokenizer
from stages.common.params import load_params
from stages.common.prompt import PromptBuilder, PromptSettings
from stages.common.rouge import morpheme_scores, word_scores
from stages.common.tables import Split, read_table, references

MANIFEST = Path("models/base.json")
ADAPTER = Path("models/adapter")
SPLITS: tuple[Split, ...] = ("dev", "test")


def main() -> None:
    params = load_params()
    # The prompt that the adapter was trained with, and greedy search.
    builder = PromptBuilder(load_tokenizer(MANIFEST), PromptSettings.load(ADAPTER))
    model = load_for_generation(MANIFEST, None, params.quantization)
    settings = DecodingSettings(max_new_tokens=params.decoding.max_new_tokens)
    for split in SPLITS:
        table = read_table(Path(f"data/checked/{split}.csv"), split)
        dialogues = table["dialogue"].tolist()
        answers = summarise(
            model, builder, dialogues, settings, batch_size=params.decoding.batch_size, label=f"untuned {split}"
        )
        word, morpheme = word_scores(answers, references(table)), morpheme_scores(answers, references(table))
        print(f"{split}: word {word.final:.2f}, morpheme {morpheme.rounded()}")


if __name__ == "__main__":
    main()
