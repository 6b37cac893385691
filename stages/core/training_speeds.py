"""How fast each training was on this machine: kept beside Git and DVC, since times never repeat.

A training is known by its loss at every step, which each revision has in Git. Two trainings that differ in data,
settings, code or kind of machine do not share these numbers to their last digit.
"""

from __future__ import annotations

import hashlib
import json
import shutil
from contextlib import suppress
from pathlib import Path
from typing import Any

from stages.core import paths

LOSSES = Path("plots/metrics/train/loss.tsv")
"""The loss at every step, in models/training, and in metrics/train as `evaluate` copies it."""


def keep_speed() -> None:
    """Keep what the training that has just ended measured.

    A training is not to fail for it: where it cannot be written, it is not kept.
    """
    with suppress(OSError):
        target = _file((paths.TRAINING_LOG / LOSSES).read_bytes())
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary = target.with_name(f".{target.name}.tmp")
        shutil.copyfile(paths.SPEED, temporary)
        temporary.replace(target)


def kept_speed(losses: str) -> dict[str, Any] | None:
    """What was measured of the training that logged these losses; None where no training of this machine did.

    Args:
        losses: the content of `LOSSES`.

    Returns:
        As `Speedometer.report` in stages/training/tracking.py has it.
    """
    try:
        found: dict[str, Any] = json.loads(_file(losses.encode()).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return found


def _file(losses: bytes) -> Path:
    return paths.speeds_folder() / f"{hashlib.sha256(losses).hexdigest()[:16]}.json"
