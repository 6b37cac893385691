"""`make sweep` on DVC's queue, interrupted, with a run that fails."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import time
from pathlib import Path
from statistics import fmean

import pytest
from ruamel.yaml import YAML

from stages.finishing.winner import objective_of
from stages.scoring.row_scores import from_csv
from tests.clone import Clone

pytestmark = pytest.mark.slow
SWEEP = ("python", "-m", "stages.sweep", "--grids", "mine.yaml", "--name", "mine")


def queued(clone: Clone) -> int:
    """How many experiments were ever queued."""
    return (
        len(clone.git("reflog", "refs/exps/celery/stash").splitlines())
        if "celery" in clone.git("for-each-ref", "--format=%(refname)", "refs/exps")
        else 0
    )


def experiments(clone: Clone) -> dict[str, str]:
    """The experiments that ended well: their commits by name."""
    refs = clone.git("for-each-ref", "--format=%(objectname) %(refname)", "refs/exps")
    return {name: commit for commit, name in re.findall(r"(\w+) refs/exps/\w\w/\w{38}/(.+)", refs)}


def test_an_interrupted_sweep_goes_on_and_ends_in_a_table_and_a_recipe(tmp_path: Path) -> None:
    clone = Clone(tmp_path / "repository")
    # A module that no model has passes the checks of parameters, and fails in training.
    (clone.folder / "mine.yaml").write_text("grids:\n  - lora.r: [8]\n  - lora.target_modules: [[none_such]]\n")
    dry = clone.run(*SWEEP, "--dry-run")
    assert dry.stderr.splitlines()[-4:] == [
        "sweep: 3 runs to do, 0 are there; no training was timed on this machine",
        "  as it is",
        "  lora.r=8",
        '  lora.target_modules=["none_such"]',
    ]
    assert queued(clone) == 0

    environment = clone.environment(KILLED_ALONE="1")
    running = subprocess.Popen(
        SWEEP, cwd=clone.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while queued(clone) < 2:
        assert running.poll() is None
        time.sleep(0.2)
    running.send_signal(signal.SIGKILL)
    running.wait()

    done = clone.run(*SWEEP)
    assert "sweep: 3 runs to do, 0 are there" in done.stderr
    names = experiments(clone)
    assert sorted(re.sub("-[0-9a-f]{8}$", "", name) for name in names) == ["sweep-as-it-is", "sweep-r-8"]
    status = clone.dvc("queue", "status")
    assert (status.count("Success"), status.count("Failed")) == (2, 1), status

    table = clone.bytes("metrics/sweep/mine.md").decode()
    assert table in done.stdout
    scores = {}
    for name, commit in names.items():
        rows, _ = from_csv(clone.git("show", f"{commit}:metrics/eval/rows.csv"))
        scores[name[:9]] = [objective_of(row.finals, "balanced") for row in rows["dev"].values()]
    gain = fmean(scores["sweep-r-8"][1::2]) - fmean(scores["sweep-as-"][1::2])
    result = json.loads(clone.bytes("metrics/sweep/mine.json"))
    assert [run["changes"] for run in result["runs"]] == [{}, {"lora.r": 8}]
    assert result["runs"][1]["gain"][0] == pytest.approx(gain, abs=1e-4)
    assert result["runs"][0]["rows_trained"] == 8 * 4
    [failed] = result["failed"]
    assert failed.startswith("sweep-target-modules-none-such-")
    assert f"Failed: {failed}." in table
    chosen = next(run["changes"] for run in result["runs"] if run["chosen"])
    recipe = YAML(typ="safe").load(clone.bytes("recipes/mine.yaml"))
    assert recipe["lora"]["r"] == chosen.get("lora.r", 4)
    assert clone.git("status", "--porcelain").splitlines() == ["?? mine.yaml", "?? recipes/mine.yaml"]
    clone.run("python", "-m", "stages.recipe", "mine")

    # What ended is known by settings, code and tables; what failed is tried again.
    (clone.folder / "mine.yaml").write_text("grids:\n  - lora.r: [8]\n")
    again = clone.run(*SWEEP)
    assert "sweep: all 2 runs are there" in again.stderr
    assert experiments(clone) == names
