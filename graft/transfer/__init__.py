"""Strategies: what of a model learns, and at which rate. One file each, exporting one class as STRATEGY."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

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


class Strategy:
    """How a model is adapted: a frozen dataclass whose fields are its settings."""

    name: ClassVar[str] = ""

    def begin(self, model: Model) -> list[Group]:
        """Say what learns. Everything else is frozen. New weights are put in here, in float32."""
        raise NotImplementedError

    def epoch(self, model: Model, number: int, epochs: int) -> None:
        """Called before epoch 0, 1, ... of so many."""

    def finish(self, model: Model) -> None:
        """Leave the model as it is to be saved."""


@runtime_checkable
class Solver(Protocol):
    """A strategy that needs no steps: it solves for the head at once, on frozen features."""

    name: ClassVar[str]

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
        windows: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Fit the head; returns what was found (the regularization chosen, its score).

        Where rows have several sequences, windows of long texts, `windows` says how many each has.
        """


def names() -> list[str]:
    """The strategies this package has, by its own listing."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> type[Strategy | Solver]:
    """The strategy of that name.

    Raises:
        UsageError: there is none.
    """
    own = names()
    if name not in own:
        raise UsageError(f"unknown strategy {name!r}: {nearest(str(name), own)}")
    found: type[Strategy | Solver] = importlib.import_module(f"{__name__}.{own[own.index(name)]}").STRATEGY
    return found


def settings(name: str) -> list[str]:
    """Names of a strategy's settings."""
    return [field.name for field in dataclasses.fields(find(name))]  # type: ignore[arg-type]


def make(name: str, settings: Mapping[str, Any] | None = None) -> Strategy | Solver:
    """A strategy with its settings; text is taken as what the setting holds, lists with commas between.

    Raises:
        UsageError: there is no such strategy, it has no such setting, or the value is not one.

    >>> make("full", {"decay": "0.1"})
    Full(decay=0.1)
    """
    strategy = find(name)
    known = {field.name: field for field in dataclasses.fields(strategy)}  # type: ignore[arg-type]
    given: dict[str, Any] = {}
    for key, value in (settings or {}).items():
        if key not in known:
            valid = nearest(key, known) if known else f"{name} has none"
            raise UsageError(f"strategy {name} has no setting {key!r}: {valid}")
        given[key] = _value(name, key, value, known[key].default)
    return strategy(**given)


def _value(strategy: str, key: str, given: Any, default: Any) -> Any:
    """A setting in the type of its default."""
    kind = type(default)
    try:
        if kind is tuple:
            return tuple(given.split(",") if isinstance(given, str) else given)
        if kind is bool and isinstance(given, str):
            return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}[given.lower()]
        if isinstance(given, bool) is not (kind is bool):
            raise ValueError
        return kind(given)
    except (TypeError, ValueError, KeyError, OverflowError) as error:
        expected = {int: "a whole number", float: "a number", bool: "true or false", tuple: "names"}.get(kind, "text")
        raise UsageError(f"strategy {strategy}: {key} is {given!r}, expected {expected}, as in {default!r}") from error
