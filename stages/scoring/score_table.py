"""What a run ends with: its scores beside the extractive baselines, and where its files are."""

from __future__ import annotations

from typing import Any, Literal

from stages.scoring.metrics import compared

SPLITS: tuple[Literal["dev", "test"], ...] = ("dev", "test")

REFITTED = "refitted"
"""The key of scores.json that says which adapter summarized each split, where test has one that learned dev too."""

_FILES = """\
adapter      models/adapter
predictions  data/predictions
submission   data/submission.csv
metrics      metrics/eval/metrics.json
scores       metrics/eval/scores.json
report       metrics/eval/report.html
exploration  metrics/figures/explore.html"""


def summary_table(scores: dict[str, Any]) -> str:
    """Write the contents of metrics/eval/scores.json as text.

    The first columns are `final` by the metrics that runs are compared by, for ROUGE the mean of ROUGE-1, ROUGE-2 and
    ROUGE-L; R-1, R-2 and R-L are those at morpheme level. Beside them stand what ROUGE does not see: the percentage of
    summaries that say the same three words twice, and their length for each character of the references. A split that
    has no scores has no references. Where test is by an adapter that learned dev too, a line says so.
    """
    tables = [_split_table(split, scores.get(split)) for split in SPLITS]
    return "\n\n".join([*tables, *_refitted(scores.get(REFITTED)), _FILES])


def _refitted(adapters: dict[str, str] | None) -> list[str]:
    if not adapters:
        return []
    return [
        f"test is by {adapters['test']}, which learned dev too and has no dev score of its own; dev is by "
        f"{adapters['dev']}, the run that it follows"
    ]


def _split_table(split: str, scores: dict[str, Any] | None) -> str:
    if scores is None:
        return _line(split, "no references: predicted, not scored")
    finals = {name: f"{scores[name]['final']:.2f}" for name in compared() if name in scores}
    rouge = [f"{scores['morpheme'][name]:.2f}" for name in ("rouge1", "rouge2", "rougeL")]
    shape = [f"{scores['checks']['repeats']:.0f}%", f"x {scores['length_ratio']:.2f}"]
    lines = [
        _line(split, *finals, "R-1", "R-2", "R-L", "repeats", "length"),
        _line("model", *finals.values(), *rouge, *shape),
        # Of a baseline there is the score of morphemes alone.
        *(
            _line(name, *(f"{baseline['final']:.2f}" if each == "morpheme" else "" for each in finals))
            for name, baseline in scores["baselines"].items()
        ),
    ]
    return "\n".join(lines)


def _line(name: str, *cells: str) -> str:
    return (f"{name:10}" + "".join(f"{cell:>10}" for cell in cells)).rstrip()
