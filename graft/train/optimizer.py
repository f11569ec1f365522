"""AdamW over float32 master weights, whatever dtype the model computes in."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

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
    others have no gradient and no decay, so the result is the same to the last bit. Each parameter counts its own
    steps: one that begins to learn late has the bias of its moments corrected from its own beginning.
    """

    def __init__(
        self,
        groups: Sequence[Group],
        masters: Mapping[torch.nn.Parameter, Tensor] | None = None,
        rows: Mapping[torch.nn.Parameter, Tensor] | None = None,
    ) -> None:
        """Prepare the moments.

        Args:
            groups: what learns, now or later: what has no gradient is left alone.
            masters: the float32 values of parameters that are kept in another dtype; updated in place.
            rows: for embeddings without decay, the numbers of the rows that ever have a gradient; it may be sparse.
        """
        masters, rows = masters or {}, rows or {}
        for parameter in (parameter for group in groups for parameter in group.parameters):
            parameter.data = parameter.data.contiguous()  # a loaded one may lie as its file has it
        self.groups = list(groups)
        self.states = [
            _State(parameter, masters.get(parameter, parameter.data), group, rows.get(parameter))
            for group in groups
            for parameter in group.parameters
        ]

    def norm(self) -> Tensor:
        """Euclidean norm of all gradients together, a float32 scalar."""
        return get_total_norm([state.gradient() for state in self._learning()]).float()

    def step(self, rate: float, scale: float = 1.0) -> None:
        """Update every parameter that has a gradient, then drop the gradients.

        Args:
            rate: the learning rate of this step.
            scale: factor on all gradients (clipping).
        """
        states = self._learning()
        for group in self.groups:
            own = [state for state in states if state.group is group]
            for pieces in _batches(piece for state in own for piece in state.pieces()):
                self._update(pieces, group, rate, scale)
        with torch.no_grad():
            _write_back(states)
        for state in states:
            state.done()

    def _learning(self) -> list[_State]:
        return [state for state in self.states if state.parameter.grad is not None]

    def _update(self, pieces: Sequence[_Piece], group: Group, rate: float, scale: float) -> None:
        wide = [piece.gradient.float() for piece in pieces]
        if scale != 1.0:
            torch._foreach_mul_(wide, scale)
        device = wide[0].device
        done = {steps: torch.tensor(float(steps), device=device) for steps in {piece.steps for piece in pieces}}
        adamw(
            [piece.value for piece in pieces],
            wide,
            [piece.first for piece in pieces],
            [piece.second for piece in pieces],
            [],
            [done[piece.steps].clone() for piece in pieces],
            fused=True,
            amsgrad=False,
            beta1=BETAS[0],
            beta2=BETAS[1],
            lr=rate * group.rate,
            weight_decay=group.decay,
            eps=EPSILON,
            maximize=False,
        )


class _Piece(NamedTuple):
    """Part of a parameter: master values, gradient, both moments, and how often it was updated so far."""

    value: Tensor
    gradient: Tensor
    first: Tensor
    second: Tensor
    steps: int


class _State:
    """One parameter with its moments; where `rows` is given, only of those rows."""

    def __init__(self, parameter: torch.nn.Parameter, master: Tensor, group: Group, rows: Tensor | None) -> None:
        self.parameter, self.master, self.group, self.rows = parameter, master, group, rows
        self.values = master if rows is None else master[rows]
        self.first, self.second = (torch.zeros_like(self.values) for _ in range(2))
        self._compact: Tensor | None = None
        self.steps = 0
        if rows is not None:
            self._place = torch.zeros(len(master), dtype=torch.int64, device=master.device)
            self._place[rows] = torch.arange(len(rows), device=master.device)

    def gradient(self) -> Tensor:
        """The gradient, of the chosen rows where there are some."""
        gradient = self.parameter.grad
        assert gradient is not None
        if self.rows is None:
            return gradient
        if self._compact is None:
            self._compact = self._gather(gradient)
        return self._compact

    def _gather(self, gradient: Tensor) -> Tensor:
        if not gradient.is_sparse:
            return gradient[self.rows]
        compact = torch.zeros_like(self.values)
        return compact.index_add_(0, self._place[gradient._indices()[0]], gradient._values().float())

    def pieces(self) -> Iterator[_Piece]:
        """The parameter in pieces of at most CHUNK values."""
        tensors = (self.values, self.gradient(), self.first, self.second)
        for parts in zip(*(_chunks(tensor) for tensor in tensors), strict=True):
            yield _Piece._make((*parts, self.steps))

    def done(self) -> None:
        """Count the update, and drop the gradient."""
        self.steps += 1
        self.parameter.grad = self._compact = None


def _batches(pieces: Iterable[_Piece]) -> Iterator[list[_Piece]]:
    """Pieces that together have at most CHUNK values: small tensors share a call."""
    held: list[_Piece] = []
    for piece in pieces:
        if held and sum(one.value.numel() for one in held) + piece.value.numel() > CHUNK:
            yield held
            held = []
        held.append(piece)
    if held:
        yield held


def _write_back(states: Sequence[_State]) -> None:
    """Round the masters into the parameters."""
    for state in states:
        if state.rows is not None:
            state.master[state.rows] = state.values
            state.parameter.data[state.rows] = state.values.to(state.parameter.dtype)
    apart = [s for s in states if s.rows is None and s.parameter.data_ptr() != s.master.data_ptr()]
    if apart:
        torch._foreach_copy_([state.parameter.data for state in apart], [state.master for state in apart])


def _chunks(tensor: Tensor) -> Sequence[Tensor]:
    flat = tensor.detach().view(-1)
    return torch.split(flat, CHUNK) if flat.device.type == "cpu" else (flat,)
