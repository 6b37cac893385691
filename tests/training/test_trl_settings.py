from __future__ import annotations

from pathlib import Path

import pytest
import torch

from stages.core.params import load_params
from stages.training.trl_settings import sft_config
from tests.tiny_project import ROOT


@pytest.mark.parametrize(("visible", "used"), [(0, 0), (1, 1), (4, 1)])
def test_of_several_gpus_a_training_takes_the_first(
    visible: int, used: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: visible)
    settings = sft_config(load_params(ROOT / "params.yaml"), tmp_path, 2, torch.float32)
    assert settings.n_gpu == used
    assert settings.train_batch_size == 4


def test_without_dev_nothing_is_measured(tmp_path: Path) -> None:
    settings = sft_config(load_params(ROOT / "params.yaml"), tmp_path, 2, torch.float32, measured=False)
    assert (settings.eval_strategy, settings.load_best_model_at_end, settings.save_steps) == ("no", False, 2)
