"""How fast each training was on this machine: kept beside Git and DVC, since times never repeat.

A training is known by its loss at every step, which each revision has in Git. Two trainings that differ in data,
settings, code or kind of machine do not share these numbers to their last digit.
"""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.core import paths
from stages.core.errors import UserError
from stages.core.files import read_json, write_json

LOSSES = Path("plots/metrics/train/loss.tsv")
"""The loss at every step, in models/training, and in metrics/train as `evaluate` copies it."""


def keep_speed(report: dict[str, Any]) -> None:
    """Keep what was measured of the training whose losses lie in models/training; it is not to fail for it.

    Args:
        report: as `Speedometer.report` in stages/training/tracking.py gives it.
    """
    with suppress(OSError, UserError):
        write_json(_file((paths.TRAINING_LOG / LOSSES).read_bytes()), report)


def kept_speed(losses: str) -> dict[str, Any] | None:
    """What was measured of the training that logged these losses; None where no training of this machine did.

    Args:
        losses: the content of `LOSSES`.

    Returns:
        The report that `keep_speed` was given.
    """
    try:
        found: dict[str, Any] = read_json(_file(losses.encode()))
    except FileNotFoundError:
        return None
    return found


def _file(losses: bytes) -> Path:
    return paths.speeds_folder() / f"{hashlib.sha256(losses).hexdigest()[:16]}.json"
