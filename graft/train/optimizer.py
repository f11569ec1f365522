"""AdamW over float32 master weights, whatever dtype the model computes in."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.optim.adamw import adamw

from graft.transfer import Group

CHUNK = 2**20
"""Values updated at a time on a processor, so that gradients are widened within its cache."""

BETAS, EPSILON = (0.9, 0.999), 1e-8


class AdamW:
    """Adam with decoupled weight decay (Loshchilov & Hutter 2019, algorithm 2).

    The model's parameters may be bfloat16: masters, moments and the update are float32, and the parameters are rounded
    copies of the masters. An embedding of which only some rows occur in the data is updated in those rows alone; the
    others have no gradient and no decay, so the result is the same to the last bit.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        masters: Mapping[torch.nn.Parameter, Tensor] | None = None,
        rows: Mapping[torch.nn.Parameter, Tensor] | None = None,
    ) -> None:
        """Prepare the moments.

        Args:
            groups: what learns.
            masters: the float32 values of parameters that are kept in another dtype; updated in place.
            rows: for embeddings without decay, the numbers of the rows that ever have a gradient.
        """
        masters, rows = masters or {}, rows or {}
        self.steps = 0
        self.states = [
            _State(parameter, masters.get(parameter, parameter.data), group, rows.get(parameter))
            for group in groups
            for parameter in group.parameters
        ]

    def norm(self) -> Tensor:
        """Euclidean norm of all gradients together, a float32 scalar."""
        return get_total_norm(list(self._gradients())).float()

    def step(self, rate: float, scale: float = 1.0) -> None:
        """Update every parameter that has a gradient, then drop the gradients.

        Args:
            rate: the learning rate of this step.
            scale: factor on all gradients (clipping).
        """
        self.steps += 1
        for state in self.states:
            if state.parameter.grad is not None:
                state.update(rate, scale, self.steps)
                state.parameter.grad = None

    def _gradients(self) -> Iterator[Tensor]:
        for state in self.states:
            if state.parameter.grad is not None:
                yield state.parameter.grad


class _State:
    """One parameter with its moments; where `rows` is given, only of those rows."""

    def __init__(self, parameter: torch.nn.Parameter, master: Tensor, group: Group, rows: Tensor | None) -> None:
        self.parameter, self.master, self.group, self.rows = parameter, master, group, rows
        values = master if rows is None else master[rows]
        self.values = values
        self.first, self.second = (torch.zeros_like(values) for _ in range(2))

    def update(self, rate: float, scale: float, steps: int) -> None:
        """One step of AdamW, a chunk at a time."""
        gradient = self.parameter.grad
        assert gradient is not None
        if self.rows is not None:
            gradient = gradient[self.rows]
        tensors = (self.values, gradient, self.first, self.second)
        for value, slope, first, second in zip(*(_chunks(tensor) for tensor in tensors), strict=True):
            wide = slope.float() if scale == 1.0 else slope.float().mul_(scale)
            adamw(
                [value],
                [wide],
                [first],
                [second],
                [],
                [torch.tensor(float(steps), device=value.device)],
                fused=True,
                amsgrad=False,
                beta1=BETAS[0],
                beta2=BETAS[1],
                lr=rate * self.group.rate,
                weight_decay=self.group.decay,
                eps=EPSILON,
                maximize=False,
            )
        self._write_back()

    def _write_back(self) -> None:
        with torch.no_grad():
            if self.rows is not None:
                self.master[self.rows] = self.values
                self.parameter.data[self.rows] = self.values.to(self.parameter.dtype)
            elif self.parameter.data_ptr() != self.master.data_ptr():
                self.parameter.data.copy_(self.master)


def _chunks(tensor: Tensor) -> Sequence[Tensor]:
    flat = tensor.detach().view(-1)
    return torch.split(flat, CHUNK) if flat.device.type == "cpu" else (flat,)
