"""Draw the loss on dev of this run and of a Git revision as text that GitHub and GitLab show as a chart.

    python -m ci.loss_chart main

Syntax: https://mermaid.js.org/syntax/xyChart.html
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from contextlib import suppress

from stages.core import paths
from stages.core.revisions import open_revision
from stages.pages.loss_chart import Curve, read_curve

LOSSES = paths.TRAIN_METRICS / "plots/metrics/eval/loss.tsv"


def chart(curves: Mapping[str, Curve]) -> str:
    """A line for each run, over the steps that all of them have; empty where they share fewer than two."""
    runs = {name: dict(curve) for name, curve in curves.items()}
    steps = sorted(set.intersection(*map(set, runs.values())))
    if len(steps) < 2:
        return ""
    lines = "\n".join(f"    line [{', '.join(f'{run[step]:.4f}' for step in steps)}]" for run in runs.values())
    places = ", ".join(f'"{step:g}"' for step in steps)
    order = ", then ".join(runs)
    return f'```mermaid\nxychart-beta\n    title "Loss on dev: {order}"\n    x-axis "step" [{places}]\n{lines}\n```\n'


def main() -> None:
    base = sys.argv[1]
    with suppress(FileNotFoundError):  # a run before losses were kept has none to draw
        committed = open_revision(base).read(LOSSES).decode()
        ours = LOSSES.read_text(encoding="utf-8")
        print(chart({base.replace('"', ""): read_curve(committed), "this run": read_curve(ours)}), end="")


if __name__ == "__main__":
    main()
