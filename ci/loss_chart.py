"""Draw the loss on dev of this run and of a Git revision as text that GitHub and GitLab show as a chart.

    python -m ci.loss_chart main

Syntax: https://mermaid.js.org/syntax/xyChart.html
"""

from __future__ import annotations

import csv
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

LOSSES = Path("metrics/train/plots/metrics/eval/loss.tsv")


def losses(table: str) -> dict[int, float]:
    """The loss at each step of a table `step, loss` with tabs."""
    return {int(row["step"]): float(row["loss"]) for row in csv.DictReader(table.splitlines(), delimiter="\t")}


def chart(runs: Mapping[str, Mapping[int, float]]) -> str:
    """A line for each run, over the steps that all of them have; empty where they share fewer than two."""
    steps = sorted(set.intersection(*(set(run) for run in runs.values())))
    if len(steps) < 2:
        return ""
    lines = "\n".join(f"    line [{', '.join(f'{run[step]:.4f}' for step in steps)}]" for run in runs.values())
    places = ", ".join(f'"{step}"' for step in steps)
    order = ", then ".join(runs)
    return f'```mermaid\nxychart-beta\n    title "Loss on dev: {order}"\n    x-axis "step" [{places}]\n{lines}\n```\n'


def main() -> None:
    base = sys.argv[1]
    committed = subprocess.run(["git", "show", f"{base}:./{LOSSES}"], capture_output=True, text=True)
    if committed.returncode or not LOSSES.is_file():
        return
    runs = {base.replace('"', ""): losses(committed.stdout), "this run": losses(LOSSES.read_text(encoding="utf-8"))}
    print(chart(runs), end="")


if __name__ == "__main__":
    main()
