"""What decoding does to ROUGE, with the adapter and tables of the last `dvc repro`.

    python -m benchmarks.decoding --output decoding.json

Greedy decoding, three beams with a repetition penalty of 1.2, and what the search of `tune_decoding` chose: `final`
ROUGE of morphemes on dev and test, each with a 95% bootstrap interval, and the paired difference to the chosen.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stages.common.answering import answer_all
from stages.common.bootstrap import interval, paired
from stages.common.decoding import DecodingSettings
from stages.common.files import read_json, write_json
from stages.common.morphemes import CUTTERS, analyser
from stages.common.params import load_params
from stages.common.postprocess import process
from stages.common.rouge import Scorer
from stages.common.tables import read_table, references
from stages.common.writers import load_writers
from stages.infer import DECODING, TABLES


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, help="a JSON file for the scores of each row")
    options = parser.parse_args()
    params = load_params()
    longest = params.decoding.max_new_tokens
    chosen = DecodingSettings(**read_json(DECODING)["chosen"])
    arms = {
        "greedy": DecodingSettings(max_new_tokens=longest),
        "3 beams, penalty 1.2": DecodingSettings(max_new_tokens=longest, num_beams=3, repetition_penalty=1.2),
        "chosen on dev": chosen,
    }
    writers = load_writers(params.decoding, params.quantization, [])
    scorer = Scorer(analyser(CUTTERS[params.evaluate.morphemes]))
    scores: dict[str, dict[str, list[float]]] = {}
    print(f"chosen on dev: {chosen}")
    for split, path in TABLES.items():
        table = read_table(path, split)
        dialogues, refs = table["dialogue"].tolist(), references(table)
        scores[split] = {}
        for name, settings in arms.items():
            answers: list[Any] = answer_all(
                writers, dialogues, settings, params.decoding, params.seed, f"{split} {name}"
            )
            texts = [process(each["text"], params.decoding.postprocess) for each in answers]
            scores[split][name] = [each.final for each in scorer.rows(texts, refs)]
        for name, values in scores[split].items():
            mean = interval(values)
            gain = paired(values, scores[split]["chosen on dev"])
            print(
                f"{split:5} {name:22} {mean.mean:6.2f} [{mean.low:.2f}, {mean.high:.2f}]; chosen is "
                f"{gain.interval.mean:+.2f} [{gain.interval.low:+.2f}, {gain.interval.high:+.2f}], p = {gain.p:.4f}",
                flush=True,
            )
    if options.output:
        write_json(options.output, scores)


if __name__ == "__main__":
    main()
