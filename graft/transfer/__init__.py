"""Strategies: what of a model learns, and at which rate. One file each, exporting one class as STRATEGY."""

from __future__ import annotations

import dataclasses
import importlib
import pkgutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol, runtime_checkable

import torch

from graft.errors import UsageError, nearest
from graft.grafted import Model
from graft.sealed import Text


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


@dataclass(frozen=True, kw_only=True)
class Strategy:
    """How a model is adapted: a frozen dataclass whose fields are its settings.

    Attributes:
        name: its name in commands: that of its file.
        tokens: the token embedding learns, so that tokens may be added to it.
        learning_rate: highest rate where the user names none.
        unchanged_at_start: whether `begin` leaves what the model computes as it was.
        head_rate: highest rate of a fresh head (`quicker_head`), where the rest's is lower; 0: the same as the rest's.
    """

    name: ClassVar[str] = ""
    tokens: ClassVar[bool] = False
    learning_rate: ClassVar[float] = 5e-5
    unchanged_at_start: ClassVar[bool] = True
    head_rate: float = 1e-3

    def __post_init__(self) -> None:
        if not 0 <= self.head_rate < 10:
            raise UsageError(
                f"strategy {self.name}: head_rate is {self.head_rate:g}, expected 0 (a fresh head learns like the "
                "rest) or a learning rate below 10"
            )

    def begin(self, model: Model) -> list[Group]:
        """Say what learns. Everything else is frozen. New weights are put in here, in float32."""
        raise NotImplementedError

    def epoch(self, model: Model, number: int, epochs: int) -> None:
        """Called before epoch 0, 1, ... of so many."""

    def finish(self, model: Model) -> None:
        """Leave the model as it is to be saved."""


def let_learn(model: Model, learning: Iterable[torch.nn.Parameter]) -> None:
    """Let these parameters learn, and nothing else."""
    chosen = {id(parameter) for parameter in learning}
    for parameter in model.parameters():
        parameter.requires_grad_(id(parameter) in chosen)


def head_alone(model: Model) -> list[torch.nn.Parameter]:
    """The head's parameters, without a matrix it shares with the backbone."""
    shared = {id(parameter) for parameter in model.backbone.parameters()}
    return [parameter for parameter in (model.head or torch.nn.Module()).parameters() if id(parameter) not in shared]


def decaying(model: Model, learning: Iterable[torch.nn.Parameter], *, decay: float, rate: float = 1.0) -> list[Group]:
    """Matrices with weight decay; embeddings, biases and normalization weights without (Devlin et al. 2019)."""
    embeddings = {id(p) for name, p in model.backbone.named_parameters() if "embedding" in name}
    matrices: list[torch.nn.Parameter] = []
    others: list[torch.nn.Parameter] = []
    for parameter in learning:
        (matrices if parameter.dim() > 1 and id(parameter) not in embeddings else others).append(parameter)
    return [Group(parameters=matrices, rate=rate, decay=decay), Group(parameters=others, rate=rate)]


def stages(model: Model) -> list[list[torch.nn.Parameter]]:
    """All parameters from the top: the head with the norm it reads, block after block, and what lies below them.

    Where there is a decoder, its blocks come before the encoder's, unless the head embeds: that reads the encoder.
    """
    encoder, embeds = model.backbone, model.head is not None and model.head.kind == "embed"
    stacks = [encoder] if encoder.decoder is None or embeds else [encoder.decoder, encoder]
    found = [head_alone(model)]
    for stack in stacks:
        blocks = [list(block.parameters()) for block in reversed(stack.blocks)]
        last = [] if stack.final_norm is None else list(stack.final_norm.parameters())
        (found if stack is stacks[0] else blocks)[0].extend(last)
        found += blocks
    placed = {id(parameter) for stage in found for parameter in stage}
    return [*found, [parameter for parameter in model.parameters() if id(parameter) not in placed]]


def quicker_head(model: Model, groups: Sequence[Group], rate: float, head_rate: float) -> list[Group]:
    """The same groups, in which a head that began at random learns at a rate of its own, if that is higher.

    Adam moves a weight by about the learning rate in a step, however large its gradient (Kingma & Ba 2015, section
    2.1). At the rates that pretrained weights bear, a few hundred steps take a fresh head hardly further than it began
    from zero, and the task is left to the backbone (docs/decisions/0019-a-fresh-head-learns-faster.md). That rates may
    differ by depth is Howard & Ruder (2018), section 3.2.

    Args:
        model: whose head it is; one that came with its files is not touched.
        groups: what learns.
        rate: the schedule's learning rate.
        head_rate: that of a fresh head.
    """
    fresh = {id(parameter) for parameter in head_alone(model)} if model.head is not None and model.head.fresh else set()
    factor = max(1.0, head_rate / rate)
    found: list[Group] = []
    for group in groups:
        for own, times in ((False, 1.0), (True, factor)):
            if chosen := [one for one in group.parameters if (id(one) in fresh) is own]:
                found.append(dataclasses.replace(group, parameters=chosen, rate=group.rate * times))
    return found


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


@runtime_checkable
class Contrasting(Protocol):
    """A solver before which the backbone learns from pairs of rows (graft/train/contrast.py)."""

    name: ClassVar[str]
    temperature: float

    def begin(self, model: Model) -> list[Group]:
        """Say what learns."""


@runtime_checkable
class Prompter(Protocol):
    """A strategy in which nothing learns: it decides how a model is asked, from texts and their labels."""

    name: ClassVar[str]

    def prompt(
        self,
        model: Model,
        texts: Sequence[Text],
        labels: Sequence[str],
        *,
        seed: int = 0,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, Any]:
        """Put what was decided into the model's settings; returns what was found."""


def names() -> list[str]:
    """The strategies this package has, by its own listing."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def find(name: str) -> type[Strategy | Solver | Prompter]:
    """The strategy of that name.

    Raises:
        UsageError: there is none.
    """
    own = names()
    if name not in own:
        raise UsageError(f"unknown strategy {name!r}: {nearest(str(name), own)}")
    found: type[Strategy | Solver | Prompter] = importlib.import_module(f"{__name__}.{own[own.index(name)]}").STRATEGY
    return found


def settings(name: str) -> list[str]:
    """Names of a strategy's settings."""
    return [field.name for field in dataclasses.fields(find(name))]  # type: ignore[arg-type]


def make(name: str, settings: Mapping[str, Any] | None = None) -> Strategy | Solver | Prompter:
    """A strategy with its settings; text is taken as what the setting holds, lists with commas between.

    Raises:
        UsageError: there is no such strategy, it has no such setting, or the value is not one.

    >>> make("full", {"decay": "0.1"})
    Full(head_rate=0.001, decay=0.1)
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
