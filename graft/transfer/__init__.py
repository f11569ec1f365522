"""Strategies: what of a model learns, and at which rate. One file each, exporting one STRATEGY."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch

from graft.errors import UsageError, nearest
from graft.grafted import Model


@dataclass(frozen=True, kw_only=True)
class Group:
    """Parameters that share a learning rate and a weight decay.

    Attributes:
        parameters: what learns.
        rate: factor on the schedule's learning rate.
        decay: decoupled weight decay (Loshchilov & Hutter 2019).
    """

    parameters: Sequence[torch.nn.Parameter]
    rate: float = 1.0
    decay: float = 0.0


class Strategy(Protocol):
    """How a model is adapted."""

    name: str

    def begin(self, model: Model) -> list[Group]:
        """Say what learns. Everything else is frozen."""

    def finish(self, model: Model) -> None:
        """Leave the model as it is to be saved."""


@runtime_checkable
class Solver(Protocol):
    """A strategy that needs no steps: it solves for the head at once, on frozen features."""

    name: str

    def solve(
        self,
        model: Model,
        sequences: Sequence[Sequence[int]],
        types: Sequence[Sequence[int] | None],
        targets: torch.Tensor,
        *,
        seed: int = 0,
        balanced: bool = False,
        dtype: torch.dtype = torch.float32,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """Fit the head; returns what was found (the regularization chosen, its score)."""


def names() -> list[str]:
    """The strategies this package has, by its own listing."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if module.name != "features")


def find(name: str) -> Strategy | Solver:
    """The strategy of that name.

    Raises:
        UsageError: there is none.
    """
    own = names()
    if name not in own:
        raise UsageError(f"unknown strategy {name!r}: {nearest(str(name), own)}")
    found: Strategy | Solver = importlib.import_module(f"{__name__}.{own[own.index(name)]}").STRATEGY
    return found
