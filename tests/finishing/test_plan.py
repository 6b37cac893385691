from __future__ import annotations

from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.finishing.plan import plans
from tests.tiny_project import ROOT

EXTRA = {"data.extra": [[{"path": "data/english.csv"}]]}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("data").mkdir()
    for name in ("params.yaml", "models.yaml", "dvc.yaml", "stages", "data/sample", "data/rules"):
        Path(name).symlink_to(ROOT / name)


def test_a_run_has_another_name_when_a_table_that_only_its_grid_names_has_changed() -> None:
    names = []
    for content in ("fname,dialogue,summary\n", "fname,dialogue,summary,topic\n"):
        Path("data/english.csv").write_text(content)
        names.append([plan.name for plan in plans([EXTRA], "sweep.yaml", is_up_to_date=False)])
    assert names[0][0] == names[1][0], "the run without changes reads no such table"
    assert names[0][1] != names[1][1]
    Path("data/english.csv").unlink()
    with pytest.raises(UserError, match=r"^data/english\.csv: not found; a run of the sweep reads it$"):
        plans([EXTRA], "sweep.yaml", is_up_to_date=False)


def test_a_run_keeps_its_name_on_other_gpus() -> None:
    [before] = plans([], "sweep.yaml", is_up_to_date=False)
    text = Path("params.yaml").read_text(encoding="utf-8")
    Path("params.yaml").unlink()
    changed = text.replace("gpus_per_experiment: 1", "gpus_per_experiment: 2").replace("gpus: auto", "gpus: 2")
    assert sum(a != b for a, b in zip(text.split(), changed.split(), strict=True)) == 3
    Path("params.yaml").write_text(changed, encoding="utf-8")
    assert plans([], "sweep.yaml", is_up_to_date=False) == [before]
    Path("params.yaml").write_text(changed.replace("seed: 42", "seed: 43"), encoding="utf-8")
    assert plans([], "sweep.yaml", is_up_to_date=False) != [before]
