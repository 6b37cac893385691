from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from stages import recipe
from stages.core.params import load_params
from stages.finishing.report import as_recipe, as_table
from stages.finishing.winner import Run, compare, winner
from stages.sweep import differing, tried_values
from tests.tiny_project import ROOT, configure


def test_the_table_says_what_was_chosen_and_why() -> None:
    base = Run({}, [30, 30, 31, 31, 30, 32, 30, 30], 1200, 12.5, 1.04)
    good = Run({"lora.r": 32}, [34, 33, 34, 33, 34, 35, 35, 33], 1200, 6.25, 0.96)
    dear = Run({"train.epochs": 3}, [35, 30, 35, 31, 33, 29, 34.5, 31], 1800, 8, 1.0)
    lines = compare([base, good, dear])
    assert as_table(lines, winner(lines), "balanced", ["sweep-r-64-0a1b2c3d"]) == (
        "# A sweep of 3 settings\n"
        "\n"
        "Scores are by `balanced`, from 0 to 100. 4 rows of dev chose; the other 4 chose nothing and tell the gain, "
        "with a 95% interval of paired differences.\n"
        "\n"
        "Chosen: **lora.r=32**. Its gain: +2.75 [+2.25, +3.00], p 0.1243: may be chance.\n"
        "2 settings are within one standard error of the best on the half that chooses. Of these, fewer repeats and a "
        "length near the references' were preferred; where these are alike, params.yaml as it is, else the one "
        "that trains on the fewest rows.\n"
        "\n"
        "| settings | rows trained | half that chooses | other half | gain there | repeats | length | |\n"
        "|---|---:|---:|---:|---|---:|---:|---|\n"
        "| as it is | 1,200 | 30.25 | 30.75 |  | 12% | 1.04 |  |\n"
        "| lora.r=32 | 1,200 | 34.25 | 33.50 | +2.75 [+2.25, +3.00], p 0.1243: may be chance | 6% | 0.96 | chosen |\n"
        "| train.epochs=3 | 1,800 | 34.38 | 30.25 | -0.50 [-2.25, +0.75], p 1.0000: may be chance "
        "| 8% | 1.00 | as good as the best |\n"
        "\n"
        "Failed: sweep-r-64-0a1b2c3d. `dvc queue logs NAME` says why; the next sweep tries them again.\n"
    )


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    Path("recipes").mkdir()
    for name in ("params.yaml", "recipes/sample.yaml"):
        Path(name).write_bytes((ROOT / name).read_bytes())
    return tmp_path


def test_the_recipe_brings_back_what_was_chosen_whatever_stood_there_before(project: Path) -> None:
    before = Path("params.yaml").read_text(encoding="utf-8")
    configure(train={"batch_size": 8}, lora={"alpha": 64})
    present = {"lora.r": 16, "train.learning_rate": 2e-4, "lora.alpha": 64, "train.batch_size": 8, "train.epochs": 2}
    scores = [30, 31, 30, 31, 30, 31]
    lines = compare([Run({}, scores, 10, 5, 1.0), Run({"lora.r": 32}, [score + 1 for score in scores], 10, 5, 1.0)])
    grids: list[dict[str, list[Any]]] = [{"lora.r": [32, 64]}, {"train.learning_rate": [1e-4], "lora.r": [32]}]
    text = as_recipe(winner(lines), tried_values(grids, present), differing(present), 4, "balanced")
    assert text == (
        "# Chosen by `make sweep` among 4 settings; gain by balanced on dev's other half: +1.00 [+1.00, +1.00], "
        "p 0.2442: may be chance\n"
        "\n"
        "lora:\n"
        "  alpha: 64\n"
        "  r: 32 # tried: 16, 32, 64\n"
        "train:\n"
        "  batch_size: 8\n"
        "  learning_rate: 0.0002 # tried: 0.0002, 0.0001\n"
    )
    Path("params.yaml").write_text(before, encoding="utf-8")
    Path("recipes/mine.yaml").write_text(text, encoding="utf-8")
    recipe.main(["mine"])
    params = load_params()
    assert (params.lora.r, params.lora.alpha, params.train.batch_size, params.train.learning_rate) == (32, 64, 8, 2e-4)
