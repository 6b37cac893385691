"""Choose decoding settings by `evaluate.objective` on dev: `python -m stages.tune_decoding`.

Each half of the tuning rows chooses settings, by successive halving; the best on all rows is taken, of the two and the
fixed settings of params.yaml. Where chance may have decided, those win whose summaries repeat least and are nearest to
the references' length. What tuning gains over the fixed settings is told by cross-validation: each half is scored with
what the other half chose. metrics/eval/decoding.json has the choice and all that was tried; points for plots are
written to metrics/eval/decoding.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict
from itertools import chain
from operator import attrgetter
from statistics import fmean
from typing import Any

from stages.core import paths
from stages.core.errors import run_stage
from stages.core.files import replacing, write_json
from stages.core.params import SEARCHED, Params, load_params
from stages.corpus.spread import spread
from stages.corpus.tables import read_table, references
from stages.decoding.choice import Average, Outcome, best
from stages.decoding.postprocess import process
from stages.decoding.run_batches import run_batches
from stages.decoding.successive_halving import halve
from stages.engines.batches import Tell, batches
from stages.engines.load_writers import load_writer
from stages.engines.settings import DecodingSettings, candidates, fixed_settings
from stages.engines.transformers_writer import TransformersWriter
from stages.scoring.objective import Objective
from stages.scoring.shape import repeated_words

logger = logging.getLogger(__name__)


class Evaluation:
    """Tries settings on rows of dev, and measures what they write after postprocessing."""

    def __init__(
        self,
        writer: TransformersWriter,
        dialogues: Sequence[str],
        refs: Sequence[Sequence[str]],
        params: Params,
    ) -> None:
        self.writer = writer
        self.dialogues = dialogues
        self.refs = refs
        self.decoding = params.decoding
        self.objective = Objective.of(params.evaluate)
        self.lengths = writer.prepare(dialogues)
        self.known: dict[DecodingSettings, dict[int, Outcome]] = defaultdict(dict)
        """The outcomes so far, by settings and row."""

    def __call__(self, settings: Sequence[DecodingSettings], rows: Sequence[int]) -> list[list[Outcome]]:
        """Outcomes: (settings, rows), memoized."""
        new: dict[tuple[int, ...], list[DecodingSettings]] = defaultdict(list)
        for candidate in settings:
            new[tuple(row for row in rows if row not in self.known[candidate])].append(candidate)
        for unknown, alike in new.items():
            self._evaluate(alike, unknown)
        return [[self.known[candidate][row] for row in rows] for candidate in settings]

    def _evaluate(self, settings: Sequence[DecodingSettings], rows: Sequence[int]) -> None:
        def work(batch: list[int], tell: Tell) -> list[list[Outcome]]:
            texts = self.writer.best([self.dialogues[rows[i]] for i in batch], settings)
            tell(len(batch))
            return [[self._measure(summaries[i], rows[row]) for summaries in texts] for i, row in enumerate(batch)]

        room = max(candidate.num_beams * candidate.max_new_tokens for candidate in settings)
        alone = batches([self.lengths[row] for row in rows], room, self.writer.limits(self.decoding))
        by_row = run_batches(work, alone, f"{len(settings)} settings")
        for row, outcomes in zip(rows, by_row, strict=True):
            for candidate, outcome in zip(settings, outcomes, strict=True):
                self.known[candidate][row] = outcome

    def _measure(self, text: str, row: int) -> Outcome:
        summary, refs = process(text, self.decoding.postprocess), self.refs[row]
        (score,) = self.objective.rows([summary], [refs])
        return Outcome(score, bool(repeated_words(summary)), len(summary), fmean(map(len, refs)))


def choose(evaluate: Evaluation, settings: Sequence[DecodingSettings], fixed: DecodingSettings) -> dict[str, Any]:
    """The best settings, what tuning gains, and all that was tried, as metrics/eval/decoding.json holds them."""
    rows = list(range(len(evaluate.dialogues)))
    halves = [half for half in (rows[::2], rows[1::2]) if half]
    winners = [best(halve(settings, half, evaluate, attrgetter("score"))) for half in halves]
    contenders = list(dict.fromkeys([*winners, fixed]))
    chosen = best(dict(zip(contenders, evaluate(contenders, rows), strict=True)))
    logger.info("chosen on %d dialogues: %s; %s", len(rows), asdict(chosen), Average.of(evaluate([chosen], rows)[0]))
    report: dict[str, Any] = {"chosen": asdict(chosen)}
    if len(halves) == 2:
        unseen = [evaluate([winner], half)[0] for winner, half in zip(winners, reversed(halves), strict=True)]
        after, before = Average.of(list(chain.from_iterable(unseen))), Average.of(evaluate([fixed], rows)[0])
        logger.info("cross-validated: %s; with the fixed settings: %s", after, before)
        report["cross_validated"] = {
            "samples": len(rows),
            "chosen": after.rounded(),
            "fixed": before.rounded(),
            "gain": round(after.score - before.score, 4),
        }
    known = {candidate: list(evaluate.known[candidate].values()) for candidate in [*settings, fixed]}
    report["tried"] = [
        {**asdict(candidate), "samples": len(outcomes), **Average.of(outcomes).rounded()}
        for candidate, outcomes in known.items()
    ]
    return report


def write_points(tried: Sequence[dict[str, Any]]) -> None:
    """One table for each setting: its value and the score, for all that was tried; dvc.yaml plots each."""
    with replacing(paths.DECODING_POINTS) as folder:
        folder.mkdir()
        for name in SEARCHED:
            lines = [f"{float(result[name]):g}\t{result['final']}\t{result['samples']}\n" for result in tried]
            (folder / f"{name}.tsv").write_text("value\tfinal\tsamples\n" + "".join(lines), encoding="utf-8")


def main() -> None:
    params = load_params()
    decoding = params.decoding
    fixed = fixed_settings(decoding)
    report: dict[str, Any] = {"chosen": asdict(fixed), "tried": []}
    if decoding.tune:
        settings = candidates(decoding)
        dev = read_table(paths.DEV, "dev")
        rows = spread(len(dev), decoding.tune_samples)
        dialogues, refs = dev["dialogue"].tolist(), references(dev)
        writer = load_writer(params.quantization, merge=True)
        evaluate = Evaluation(writer, [dialogues[row] for row in rows], [refs[row] for row in rows], params)
        report = choose(evaluate, settings, fixed)
    write_json(paths.DECODING, {"objective": params.evaluate.objective, **report})
    write_points(report["tried"])


if __name__ == "__main__":
    run_stage(main)
