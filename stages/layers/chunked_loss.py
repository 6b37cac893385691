"""Cross-entropy against a frozen output embedding, a few positions at a time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

CPU_BYTES = 64 * 2**20
GPU_BYTES = 512 * 2**20
"""Most memory that the logits of one chunk take, in float32."""


def token_losses(hidden: Tensor, labels: Tensor, weight: Tensor, softcap: float | None = None) -> Tensor:
    """The cross-entropy of each position, in float32.

    The logits of all positions never exist at once: with Gemma 3's 262,144 words a thousand of them take a
    gigabyte, four times over in a backward pass. Each chunk's gradient is taken while its logits are there, which
    costs no product more, since the frozen embedding needs none of its own.

    Args:
        hidden: what the model's last layer puts out, positions x width.
        labels: the token that each position has to predict, positions.
        weight: the frozen output embedding, words x width.
        softcap: what logits are kept below, as Gemma 2's are: softcap * tanh(logits / softcap).
    """
    losses: Tensor = _FrozenHead.apply(hidden, labels, weight, softcap)  # type: ignore[no-untyped-call]
    return losses


class _FrozenHead(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, hidden: Tensor, labels: Tensor, weight: Tensor, softcap: float | None) -> Tensor:
        size = max(1, (GPU_BYTES if hidden.is_cuda else CPU_BYTES) // (4 * len(weight)))
        losses = hidden.new_empty(len(hidden), dtype=torch.float32)
        gradient = torch.empty_like(hidden) if ctx.needs_input_grad[0] else None
        for start in range(0, len(hidden), size):
            chunk = slice(start, start + size)
            target = labels[chunk, None]
            logits = (hidden[chunk] @ weight.T).float()
            slope = None
            if softcap is not None:
                tanh = logits.div_(softcap).tanh_()
                slope = 1 - tanh.square() if gradient is not None else None
                logits = tanh.mul_(softcap)
            normaliser = logits.logsumexp(dim=1, keepdim=True)
            losses[chunk] = (normaliser - logits.gather(1, target))[:, 0]
            if gradient is not None:
                # The gradient of the logits: their probabilities, less one at the label.
                logits.sub_(normaliser).exp_()
                logits.scatter_add_(1, target, logits.new_full((1, 1), -1).expand_as(target))
                if slope is not None:
                    logits.mul_(slope)
                gradient[chunk] = logits.to(weight.dtype) @ weight
        ctx.save_for_backward(gradient)
        return losses

    @staticmethod
    def backward(ctx: Any, outer: Tensor) -> tuple[Tensor, None, None, None]:
        (gradient,) = ctx.saved_tensors
        return gradient * outer[:, None].to(gradient.dtype), None, None, None
