"""Gradients of a step, added up over micro-batches and processes.

A step's rows are dealt out to lanes, as many whatever the number of processes, and each process computes its share of
the lanes. On a CPU the lanes' sums are added in one fixed order, so that the number of processes changes no bit. On
GPUs, whose own sums differ from run to run, they travel while the backward pass still runs.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from stages.core.errors import UserError
from stages.training.processes import Processes

BUCKET = 16 * 2**20
"""Bytes of gradients that travel at once: many enough for the full speed of a link, few enough to set out early."""

MicroBatch = Callable[[], Tensor]
"""Adds its gradients to those of the parameters; returns its part of the loss."""


def count_lanes(setting: int | str, processes: int) -> int:
    """How many lanes a step has.

    Args:
        setting: `train.gradient_lanes`: auto, one for each process, or their number.

    Raises:
        UserError: so many processes cannot share them.
    """
    if isinstance(setting, str):
        return processes
    each, rest = divmod(setting, processes)
    # In the tree of sums, the lanes of a process must be a branch.
    if rest or (processes > 1 and each & (each - 1)):
        fitting = ", ".join(str(processes * 2**power) for power in range(3))
        raise UserError(
            f"params.yaml: train.gradient_lanes = {setting}: {processes} processes cannot share them; set auto, or "
            f"{fitting} and so on"
        )
    return setting


def sum_in_pairs(parts: Sequence[Tensor]) -> Tensor:
    """The sum, by a tree of pairs: neighbours first, then their sums.

    >>> sum_in_pairs([torch.tensor(number) for number in (1, 2, 3)])
    tensor(6)
    """
    while len(parts) > 1:
        pairs = [left + right for left, right in zip(parts[::2], parts[1::2], strict=False)]
        parts = [*pairs, *parts[2 * len(pairs) :]]
    return parts[0]


class Gradients:
    """Adds up the gradients of a step in the parameters' `grad`, the same in all processes.

    Args:
        parameters: those that are trained, in float32, on one device.
        exact: add up lanes in a fixed order; else sums travel as soon as they can.
    """

    def __init__(self, parameters: Sequence[nn.Parameter], processes: Processes, *, exact: bool) -> None:
        self.parameters = list(parameters)
        self.processes = processes
        self.exact = exact
        self._travels = processes.count > 1 and not exact
        self._buckets = _buckets(self.parameters) if self._travels else []
        self._last = False
        self._missing: list[int] = []
        self._sent: list[tuple[Any, Tensor]] = []
        for number, bucket in enumerate(self._buckets):
            for parameter in bucket:
                parameter.register_post_accumulate_grad_hook(lambda _, number=number: self._have(number))

    @property
    def on_their_way(self) -> bool:
        """Whether some of this process are with the others already, and cannot be taken back."""
        return bool(self._sent)

    def add_up(self, lanes: Sequence[Sequence[MicroBatch]]) -> Tensor:
        """Run this process's share of the micro-batches; returns the loss of all."""
        mine = lanes[self.processes.share(len(lanes))]
        if self.exact and len(lanes) > 1:
            return self._in_fixed_order(mine)
        batches = [batch for lane in mine for batch in lane]
        self._missing, self._sent = list(map(len, self._buckets)), []
        loss = torch.zeros((), device=self.parameters[0].device)
        for number, batch in enumerate(batches, start=1):
            self._last = number == len(batches)
            loss += batch()
        self._last = False
        if self._travels:
            self._send_up_to(len(self._buckets))
            dist.all_reduce(loss)
            self._receive()
        return loss

    def _in_fixed_order(self, mine: Sequence[Sequence[MicroBatch]]) -> Tensor:
        sums = []
        for lane in mine:
            loss = torch.zeros(())
            for batch in lane:
                loss += batch()
            sums.append(torch.cat([*map(_gradient, self.parameters), loss[None]]))
            for parameter in self.parameters:
                parameter.grad = None
        total = sum_in_pairs(self.processes.gather(sum_in_pairs(sums)))
        _put(self.parameters, total[:-1])
        return total[-1].clone()

    def _have(self, number: int) -> None:
        """A gradient of a bucket is complete, where the last micro-batch runs."""
        if self._last:
            self._missing[number] -= 1
            whole = next((place for place, missing in enumerate(self._missing) if missing), len(self._missing))
            self._send_up_to(whole)

    def _send_up_to(self, end: int) -> None:
        """Send the buckets before `end` that are not on their way yet; all processes send in the same order."""
        for bucket in self._buckets[len(self._sent) : end]:
            flat = torch.cat(list(map(_gradient, bucket)))
            self._sent.append((dist.all_reduce(flat, async_op=True), flat))

    def _receive(self) -> None:
        for bucket, (work, flat) in zip(self._buckets, self._sent, strict=True):
            work.wait()
            _put(bucket, flat)
        self._sent = []


def _buckets(parameters: Sequence[nn.Parameter]) -> list[list[nn.Parameter]]:
    """The parameters from the last layer on, as the backward pass comes to them, in buckets of about `BUCKET` bytes."""
    buckets: list[list[nn.Parameter]] = [[]]
    filled = 0
    for parameter in reversed(parameters):
        if filled >= BUCKET:
            buckets.append([])
            filled = 0
        buckets[-1].append(parameter)
        filled += parameter.numel() * parameter.element_size()
    return buckets


def _gradient(parameter: nn.Parameter) -> Tensor:
    """As a vector; of a process, or a lane, without rows it is 0."""
    gradient = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
    return gradient.flatten()


def _put(parameters: Sequence[nn.Parameter], flat: Tensor) -> None:
    for parameter, gradient in zip(parameters, flat.split([each.numel() for each in parameters]), strict=True):
        parameter.grad = gradient.view_as(parameter)
