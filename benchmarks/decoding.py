"""What decoding does to ROUGE, with the adapter and tables of the last `dvc repro`.

    python -m benchmarks.decoding --output decoding.json
    python -m benchmarks.decoding --samples 8 --ensemble models/other

Greedy decoding, three beams with a repetition penalty of 1.2, what the search of `tune_decoding` chose, and with
--samples what `infer` does with `decoding.rerank: mbr`, minimum Bayes risk over the beams of that choice and so many
samples of each adapter: `final` ROUGE of morphemes on dev and test, each with a 95% bootstrap interval, and the paired
difference to the last of them.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from stages.core import paths
from stages.core.files import read_json, write_json
from stages.core.params import Decoding, load_params
from stages.corpus.tables import read_table, references
from stages.decoding.find_adapter import find_adapters
from stages.decoding.postprocess import process
from stages.decoding.predict import predict_all
from stages.engines.load_writers import load_writers
from stages.engines.settings import DecodingSettings
from stages.scoring.bootstrap import interval, paired
from stages.scoring.morphemes import CUTTERS, as_analyzer
from stages.scoring.rouge import Scorer
from stages.scoring.score_table import SPLITS


def arms(decoding: Decoding, samples: int) -> dict[str, tuple[DecodingSettings, Decoding]]:
    """The settings of each arm's search, and what is done with its summaries."""
    greedy = DecodingSettings(max_new_tokens=decoding.max_new_tokens)
    penalised = DecodingSettings(max_new_tokens=decoding.max_new_tokens, num_beams=3, repetition_penalty=1.2)
    searched = decoding.model_copy(update={"rerank": "none"})
    chosen = DecodingSettings(**read_json(paths.DECODING)["chosen"])
    found = {
        "greedy": (greedy, searched),
        "3 beams, penalty 1.2": (penalised, searched),
        "chosen on dev": (chosen, searched),
    }
    if samples:
        agreed = decoding.model_copy(update={"rerank": "mbr", "samples": samples})
        found[f"MBR, {samples} samples"] = (chosen, agreed)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=0, help="samples of each adapter; 0 leaves that arm out")
    parser.add_argument("--ensemble", nargs="*", default=[], help="adapters beside models/adapter, as in params.yaml")
    parser.add_argument("--output", type=Path, help="a JSON file for the scores of each row")
    options = parser.parse_args()
    if options.ensemble and not options.samples:
        parser.error("--ensemble needs --samples, among which minimum Bayes risk chooses")
    params = load_params()
    compared = arms(params.decoding, options.samples)
    *_, last = compared
    print(f"chosen on dev: {compared['chosen on dev'][0]}")
    writers = load_writers(compared[last][1], params.quantization, find_adapters(options.ensemble))
    scorer = Scorer(as_analyzer(CUTTERS[params.evaluate.morphemes]))
    scores: dict[str, dict[str, list[float]]] = {}
    for split in SPLITS:
        table = read_table(paths.CHECKED / f"{split}.csv", split)
        dialogues, refs = table["dialogue"].tolist(), references(table)
        scores[split] = {}
        for name, (settings, decoding) in compared.items():
            arm = params.model_copy(update={"decoding": decoding})
            answers: list[Any] = predict_all(writers, dialogues, settings, arm, f"{split} {name}")
            texts = [process(each["text"], decoding.postprocess) for each in answers]
            scores[split][name] = [each.final for each in scorer.rows(texts, refs)]
        for name, values in scores[split].items():
            mean = interval(values)
            gain = paired(values, scores[split][last])
            print(
                f"{split:5} {name:22} {mean.mean:6.2f} [{mean.low:.2f}, {mean.high:.2f}]; {last} is "
                f"{gain.interval.mean:+.2f} [{gain.interval.low:+.2f}, {gain.interval.high:+.2f}], p = {gain.p:.4f}",
                flush=True,
            )
    if options.output:
        write_json(options.output, scores)


if __name__ == "__main__":
    main()
