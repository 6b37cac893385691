"""The runs of a sweep before they are done: what each changes, what DVC calls it, and how long they will take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stages.core import paths
from stages.core.amount import count_of
from stages.core.errors import UserError
from stages.core.files import read_json
from stages.core.fingerprint import fingerprint, stage_sources
from stages.core.params import ONLY_TIME, Params, Settings, flat, read_yaml, validate
from stages.core.training_speeds import LOSSES, kept_speed
from stages.finishing.grid import changed, combinations, experiment_name
from stages.finishing.user_files import user_files

PARAMS = Path("params.yaml")
NO_SCORES = ("explore",)
"""The stages whose code has no say in what a run scores."""
LIBRARIES = ("torch", "transformers", "peft", "trl")


@dataclass(frozen=True)
class Plan:
    """An experiment of the sweep, by the name that DVC has it under; one of no name is the working folder as it is."""

    name: str
    changes: Settings


def plans(grids: Sequence[Mapping[str, Sequence[Any]]], where: str, *, is_up_to_date: bool) -> list[Plan]:
    """The runs of a sweep, the one without changes first; the names tell apart settings, code and tables.

    Args:
        where: the file of the grids, for errors.
        is_up_to_date: whether the working folder has the results of the first.

    Raises:
        UserError: a grid has a key or a value that params.yaml may not have.
    """
    values = read_yaml(PARAMS)
    registry = read_yaml(Path("models.yaml"))
    stages = [stage for stage in read_yaml(Path("dvc.yaml"))["stages"] if stage not in NO_SCORES]
    code = sorted({source for stage in stages for source in stage_sources(stage)})
    made = []
    for changes in ({}, *combinations(grids, dict(flat(values)))):
        settings = changed(values, changes, where)
        deciding = {key: value for key, value in flat(settings) if key not in ONLY_TIME}
        identity = [deciding, registry.get(settings["model"]["name"])]
        read = _inputs(validate(Params, settings, f"{where}: "))
        name = experiment_name(changes, fingerprint(identity, [*code, *read], LIBRARIES))
        made.append(Plan("" if is_up_to_date and not changes else name, changes))
    return made


def expected_seconds(missing: Sequence[Plan], params: Params) -> float | None:
    """How long the trainings that are to be done will take, by what this machine measured of the last one."""
    try:
        losses = (paths.TRAIN_METRICS / LOSSES).read_text(encoding="utf-8")
        rows: dict[str, int] = read_json(paths.AUGMENTATION_METRICS)
    except FileNotFoundError:
        return None
    speed = kept_speed(losses)
    if speed is None:
        return None

    def times_the_last(changes: Settings) -> float:
        swaps = count_of(changes.get("augment.speaker_swap.n", params.augment.speaker_swap.n), rows["original"])
        epochs = float(changes.get("train.epochs", params.train.epochs))
        return epochs / params.train.epochs * (rows["total"] - rows["speaker_swap"] + swaps) / rows["total"]

    return float(speed["seconds_per_step"]) * steps_of(losses) * sum(times_the_last(plan.changes) for plan in missing)


def steps_of(losses: str) -> int:
    """The steps of a training, by its loss at each of them, under a header."""
    return len(losses.splitlines()) - 1


def _inputs(params: Params) -> list[Path]:
    """The user's files, all of which are there.

    Raises:
        UserError: one is not there.
    """
    files = user_files(params)
    for path in files:
        if not path.is_file():
            raise UserError(f"{path}: not found; a run of the sweep reads it")
    return files
