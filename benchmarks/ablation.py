"""What each way of augmentation brings: `make ablation`, or `python -m benchmarks.ablation`.

DVC experiments without augmentation, with each method of params.yaml whose `n` is above 0 alone, and with all of
them, one after the other, each in a copy of the repository: `dvc exp show` lists them as `ablation-NAME`. Run
again, it replaces them, and trains only what DVC's run cache does not hold.

metrics/eval/ablation.md gets their scores on dev and test, each a mean over dialogues with a 95 % bootstrap
interval, and the same for the differences to the run without augmentation, dialogue by dialogue. The intervals
say how far the choice of dialogues moves a mean; how far another seed would, only other seeds can tell.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from stages.core import paths
from stages.core.errors import UserError, run_stage
from stages.core.files import read_json, write_text
from stages.core.params import Augment, load_params
from stages.core.revisions import open_revision
from stages.corpus.predictions import read_predictions
from stages.corpus.tables import read_table, references
from stages.scoring.bootstrap import RESAMPLES, interval
from stages.scoring.morphemes import CUTTERS, Analyzer, as_analyzer
from stages.scoring.rouge import Scorer
from stages.scoring.score_table import SPLITS

REPORT = Path("metrics/eval/ablation.md")
PREFIX = "ablation-"
BASELINE = "none"


@dataclass(frozen=True)
class Result:
    """What an experiment gave: its number of training rows, and the score of each dialogue by split."""

    rows: int
    scores: dict[str, list[float]]


def experiments(augment: Augment) -> dict[str, dict[str, int]]:
    """The `n` of each method in each experiment, by the experiment's name.

    Raises:
        UserError: no method adds a row.
    """
    sizes = {name: getattr(augment, name).n for name in ("paraphrase", "speaker_swap", "synthesize")}
    used = [name for name, n in sizes.items() if n]
    if not used:
        raise UserError("params.yaml: augment: no method has an n above 0, there is nothing to compare; set one")
    planned = {BASELINE: dict.fromkeys(sizes, 0)}
    for name in used:
        planned[name] = dict.fromkeys(sizes, 0) | {name: sizes[name]}
    if len(used) > 1:
        planned["all"] = sizes
    return planned


def run_experiment(name: str, sizes: dict[str, int]) -> None:
    """Run the pipeline up to its scores as a DVC experiment; one of that name is replaced.

    Raises:
        UserError: DVC failed, which has said why.
    """
    experiment = PREFIX + name
    if experiment in _dvc("list", "--all-commits", "--name-only", capture=True).split():
        _dvc("remove", experiment, capture=True)
    settings = [f"--set-param=augment.{method}.n={n}" for method, n in sizes.items()]
    _dvc("run", "--temp", "--name", experiment, *settings, "evaluate")


def read_result(name: str, analyse: Analyzer) -> Result:
    """Score the predictions that an experiment recorded; a split without references is left out."""
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        recorded = open_revision(PREFIX + name)
        for path in (paths.CHECKED, paths.PREDICTIONS, paths.AUGMENTATION_METRICS):
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            recorded.copy(path, folder / path)
        scores: dict[str, list[float]] = {}
        for split in SPLITS:
            table = read_table(folder / paths.CHECKED / f"{split}.csv", split)
            predictions = read_predictions(folder / paths.PREDICTIONS / f"{split}.csv", table["fname"])
            if any(references(table)):
                scores[split] = row_scores(predictions, references(table), analyse)
        return Result(read_json(folder / paths.AUGMENTATION_METRICS)["total"], scores)


def row_scores(predictions: Sequence[str], refs: Sequence[Sequence[str]], analyse: Analyzer) -> list[float]:
    """The final score of each row that has references, at morpheme level."""
    pairs = [(prediction, row) for prediction, row in zip(predictions, refs, strict=True) if row]
    scores = Scorer(analyse).rows([prediction for prediction, _ in pairs], [row for _, row in pairs])
    return [score.final for score in scores]


def shown(scores: Sequence[float]) -> str:
    """The mean of some rows' scores, and its 95 % bootstrap interval."""
    found = interval(scores)
    return f"{found.mean:.2f} [{found.low:.2f}, {found.high:.2f}]"


def report(results: dict[str, Result], seed: int) -> str:
    """Write the table of all experiments as Markdown."""
    splits = [split for split in SPLITS if split in results[BASELINE].scores]
    header = ["augmentation", "training rows"]
    for split in splits:
        header += [split, f"{split}, difference to {BASELINE}"]
    lines = [header, ["---"] * len(header)]
    for name, result in results.items():
        cells = [name, str(result.rows)]
        for split in splits:
            scores, baseline = result.scores[split], results[BASELINE].scores[split]
            differences = [score - other for score, other in zip(scores, baseline, strict=True)]
            cells += [shown(scores), "" if name == BASELINE else shown(differences)]
        lines.append(cells)
    table = "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
    counts = " and ".join(f"{len(results[BASELINE].scores[split])} {split}" for split in splits)
    return (
        "# What augmentation brings\n\n"
        f"Mean of ROUGE-1, ROUGE-2 and ROUGE-L F1 in morphemes, 0 to 100, over {counts} dialogues, with 95 %\n"
        f"bootstrap intervals ({RESAMPLES} resamples of the dialogues). Differences are taken dialogue by dialogue.\n"
        f"All runs have the seed {seed}: how far another seed would move a score, the intervals do not tell.\n\n"
        f"{table}\n"
    )


def _dvc(command: str, *arguments: str, capture: bool = False) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "dvc", "exp", command, *arguments],
        stdout=subprocess.PIPE if capture else None,
        text=True,
    )
    if done.returncode:
        raise UserError(
            f"dvc exp {command}: failed, it says above why; mend that and run again: what is done is not done twice"
        )
    return done.stdout or ""


def main() -> None:
    params = load_params()
    planned = experiments(params.augment)
    for name, sizes in planned.items():
        run_experiment(name, sizes)
    analyse = as_analyzer(CUTTERS[params.evaluate.morphemes])
    text = report({name: read_result(name, analyse) for name in planned}, params.seed)
    write_text(REPORT, text)
    print(text)


if __name__ == "__main__":
    run_stage(main)
