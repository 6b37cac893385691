from __future__ import annotations

import pytest
import torch
from torch import nn

from stages.core.errors import UserError
from stages.training.gradients import Gradients, count_lanes, sum_in_pairs
from stages.training.processes import ALONE


@pytest.mark.parametrize(
    ("setting", "processes", "lanes"), [("auto", 1, 1), ("auto", 3, 3), (1, 1, 1), (3, 1, 3), (8, 2, 8), (6, 3, 6)]
)
def test_lanes_that_processes_can_share(setting: int | str, processes: int, lanes: int) -> None:
    assert count_lanes(setting, processes) == lanes


@pytest.mark.parametrize(
    ("setting", "processes", "fitting"), [(1, 2, "2, 4, 8"), (6, 2, "2, 4, 8"), (4, 3, "3, 6, 12")]
)
def test_lanes_that_they_cannot(setting: int, processes: int, fitting: str) -> None:
    with pytest.raises(UserError) as error:
        count_lanes(setting, processes)
    assert str(error.value) == (
        f"params.yaml: train.gradient_lanes = {setting}: {processes} processes cannot share them; set auto, or "
        f"{fitting} and so on"
    )


@pytest.mark.parametrize(("lanes", "processes"), [(8, 2), (8, 4), (6, 3), (12, 3), (7, 7)])
def test_what_a_process_adds_up_is_a_branch_of_the_tree(lanes: int, processes: int) -> None:
    parts = list(torch.randn(lanes, 1000, generator=torch.Generator().manual_seed(0)))
    each = lanes // processes
    branches = [sum_in_pairs(parts[start : start + each]) for start in range(0, lanes, each)]
    assert torch.equal(sum_in_pairs(branches), sum_in_pairs(parts))


@pytest.mark.parametrize("lanes", [1, 3])
def test_all_micro_batches_of_all_lanes_count(lanes: int) -> None:
    used, unused = nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(3))

    def micro_batch(factor: float) -> torch.Tensor:
        loss = factor * used.sum()
        torch.autograd.backward([loss])
        return loss.detach()

    batches = [lambda factor=factor: micro_batch(factor) for factor in (1.0, 2.0, 4.0)]
    dealt = [batches[lane::lanes] for lane in range(lanes)]
    assert Gradients([used, unused], ALONE, exact=True).add_up(dealt).item() == 14
    assert used.grad is not None
    assert used.grad.tolist() == [7, 7]
