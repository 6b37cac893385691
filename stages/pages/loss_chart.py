"""Charts of losses that share their scales, so that runs can be told apart at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean
from types import SimpleNamespace

AXES = SimpleNamespace(left=40, right=316, top=10, bottom=128)
"""Where the axes of a chart lie, in the units of its drawing."""
MOST = 120
"""Points of a line."""

Curve = Sequence[tuple[float, float]]
"""Steps and losses."""


@dataclass(frozen=True)
class Losses:
    train: Curve = ()
    dev: Curve = ()


@dataclass(frozen=True)
class Chart:
    """A run's losses as `points` of SVG polylines, with those on dev of the best run to compare."""

    train: str
    dev: str
    best: str
    """Empty where this run is the best or there is none."""
    steps: int
    """The last step of the longest run, where the axis ends."""
    least: float
    most: float
    """Where the axis of losses begins and ends."""


def read_curve(tsv: str) -> Curve:
    """What DVCLive wrote: a line of names, then `step` and a value; values that are no number are left out.

    Raises:
        ValueError: it is no such table.
    """
    _, *lines = tsv.splitlines()
    points = [(float(step), float(value)) for step, value in (line.split("\t") for line in lines)]
    return [point for point in points if math.isfinite(point[1])]


def thinned(curve: Curve, most: int = MOST) -> Curve:
    """At most so many points, each the mean of those that it stands for."""
    size = math.ceil(len(curve) / most)
    if size <= 1:
        return curve
    groups = [curve[start : start + size] for start in range(0, len(curve), size)]
    return [(fmean(step for step, _ in group), fmean(loss for _, loss in group)) for group in groups]


def charts(losses: Sequence[Losses], best: Losses | None) -> list[Chart | None]:
    """A chart of each run; None of one without a point.

    Args:
        best: those of the run that the others are drawn with.
    """
    points = [point for each in losses for line in (each.train, each.dev) for point in thinned(line)]
    if not points:
        return [None] * len(losses)
    steps = max(step for step, _ in points)
    least, most = min(loss for _, loss in points), max(loss for _, loss in points)
    across, down = (AXES.right - AXES.left) / (steps or 1), (AXES.bottom - AXES.top) / ((most - least) or 1)

    def drawn(line: Curve) -> str:
        places = [
            f"{AXES.left + across * step:.1f},{AXES.top + down * (most - loss):.1f}" for step, loss in thinned(line)
        ]
        return " ".join(places * 2 if len(places) == 1 else places)  # SVG draws no line of one point

    others = "" if best is None else drawn(best.dev)
    return [
        Chart(drawn(each.train), drawn(each.dev), "" if each is best else others, round(steps), least, most)
        if each.train or each.dev
        else None
        for each in losses
    ]
