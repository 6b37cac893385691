from __future__ import annotations

from pathlib import Path

import pytest

from stages.core.errors import UserError
from stages.core.files import write_json
from stages.show import main

SCORES = {
    "word": {"rouge1": 20.0, "rouge2": 4.0, "rougeL": 18.0, "final": 14.0},
    "morpheme": {"rouge1": 45.678, "rouge2": 20.0, "rougeL": 40.0, "final": 35.226},
    "baselines": {"lead2": {"final": 18.85}, "lead3": {"final": 20.47}, "longest3": {"final": 24.67}},
    "empty": 0,
}


def test_the_last_run_is_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_json(tmp_path / "metrics/eval/metrics.json", {"dev": SCORES})
    main()
    assert (
        capsys.readouterr().out
        == """\
dev             word  morpheme       R-1       R-2       R-L
model          14.00     35.23     45.68     20.00     40.00
lead2                    18.85
lead3                    20.47
longest3                 24.67

test      no references: predicted, not scored

adapter      models/adapter
predictions  data/predictions
submission   data/submission.csv
metrics      metrics/eval/metrics.json
report       metrics/eval/report.html
exploration  metrics/figures/explore.html
"""
    )


def test_before_the_first_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        main()
    assert str(caught.value) == "metrics/eval/metrics.json: not found; `dvc repro` writes it"
