"""The chunked loss is plain cross-entropy, and so are its gradients."""

from __future__ import annotations

import pytest
import torch
from torch.nn.functional import cross_entropy

from stages.layers import chunked_loss as loss
from stages.layers.chunked_loss import token_losses


@pytest.mark.parametrize("positions_at_once", [1, 3, 100])
@pytest.mark.parametrize("softcap", [None, 1.5])
def test_losses_and_gradients_are_those_of_cross_entropy(
    positions_at_once: int, softcap: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    words, width, positions = 50, 8, 10
    monkeypatch.setattr(loss, "CPU_BYTES", 4 * words * positions_at_once)
    torch.manual_seed(0)
    weight = torch.randn(words, width)
    labels = torch.randint(0, words, (positions,))
    outer = torch.rand(positions)
    hidden = torch.randn(positions, width, requires_grad=True)
    expected_hidden = hidden.detach().clone().requires_grad_()

    losses = token_losses(hidden, labels, weight, softcap)
    logits = expected_hidden @ weight.T
    capped = logits if softcap is None else softcap * (logits / softcap).tanh()
    expected = cross_entropy(capped, labels, reduction="none")
    torch.testing.assert_close(losses, expected)

    (losses * outer).sum().backward()
    (expected * outer).sum().backward()
    torch.testing.assert_close(hidden.grad, expected_hidden.grad)


def test_without_gradients_there_are_still_losses() -> None:
    hidden, weight, labels = torch.randn(3, 4), torch.randn(5, 4), torch.tensor([0, 4, 2])
    with torch.no_grad():
        losses = token_losses(hidden, labels, weight)
    torch.testing.assert_close(losses, cross_entropy(hidden @ weight.T, labels, reduction="none"))


def test_half_precision_comes_back_in_its_own_type_with_losses_in_float32() -> None:
    hidden = torch.randn(3, 4, dtype=torch.bfloat16, requires_grad=True)
    losses = token_losses(hidden, torch.tensor([0, 1, 2]), torch.randn(5, 4, dtype=torch.bfloat16))
    losses.sum().backward()
    assert losses.dtype is torch.float32
    assert hidden.grad is not None and hidden.grad.dtype is torch.bfloat16
