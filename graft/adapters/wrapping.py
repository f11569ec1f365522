"""What of a model is wrapped, what of it learns, and how the wrapping comes off again."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import cast

from torch import nn

from graft.adapters.base import Base
from graft.adapters.layers import Bottleneck, LowRank, Wrapped
from graft.adapters.mix import LayerMix
from graft.adapters.swap import swap
from graft.errors import UsageError, nearest
from graft.heads import Head
from graft.model.config import LINEARS


def present(backbone: nn.Module) -> bool:
    """Whether a backbone has wrapped layers, or a mix of its layers."""
    return any(isinstance(layer, Wrapped | LayerMix) for layer in backbone.modules())


def added(backbone: nn.Module) -> set[str]:
    """Names of the parameters that wrapping and mixing put in."""
    wrapped = [(name, layer) for name, layer in backbone.named_modules() if isinstance(layer, Wrapped | LayerMix)]
    inner = ((name, part) for name, layer in wrapped for part, _ in layer.named_parameters())
    return {f"{name}.{part}" for name, part in inner if part not in ("weight", "bias")}


def layers(backbone: nn.Module) -> dict[str, str]:
    """The Linear layers of the blocks, but for experts: whole name -> last part of it."""
    names = (name for name, layer in backbone.named_modules() if isinstance(layer, nn.Linear))
    return {name: name.rpartition(".")[2] for name in names if "blocks." in name and ".experts." not in name}


def add(
    backbone: nn.Module,
    head: Head | None,
    base: Base,
    targets: Collection[str],
    make: Callable[[nn.Linear], Wrapped],
    more: Callable[[str], bool] = lambda name: False,
) -> list[nn.Parameter]:
    """Freeze a model but for its head, wrap layers of its blocks, and give back what learns.

    Args:
        backbone: its backbone.
        head: its head.
        base: where its weights lie as they are.
        targets: names of the Linear layers, such as query; "all" is those of every block. Experts are left alone: they
            are no layers of their own in other libraries.
        make: wraps one.
        more: which other parameters of the backbone, by name, are to learn.

    Raises:
        UsageError: there is no layer of that name, or the model is an adapter already.
    """
    if present(backbone) or not base.reference:
        raise UsageError("this model is an adapter already; `graft convert` merges it into one to put others on")
    places = layers(backbone)
    known = {*places.values(), "all"}
    unknown = [name for name in targets if name not in known]
    if unknown or not targets:
        found = f"no layer is called {unknown[0]!r}" if unknown else "no layers are named"
        raise UsageError(f"targets: {found}; {nearest(unknown[0] if unknown else '', known)}")
    chosen = {*targets, *(LINEARS if "all" in targets else ())}
    for parameter in [*backbone.parameters(), *(head.parameters() if head else ())]:
        parameter.requires_grad_(False)
    swap(backbone, lambda name, _: places.get(name) in chosen, make)
    own = head.own() if head else {}
    new = added(backbone)
    learning = [p for name, p in backbone.named_parameters() if name in new or more(name)]
    learning += [p for name, p in head.named_parameters() if name in own] if head else []
    for parameter in learning:
        parameter.requires_grad_(True)
    return learning


def merge(backbone: nn.Module, name: object) -> bool:
    """Fold low-rank factors into the layers they stand beside; whether there were any.

    Args:
        backbone: of a model.
        name: of the model, for the message.

    Raises:
        UsageError: there is a bottleneck or a mix of layers, which no Linear layer can hold.
    """
    if any(isinstance(layer, LayerMix) for layer in backbone.modules()):
        raise UsageError(f"{name}: a mix of layers cannot be merged into its base; use or adapt the base itself")
    if any(isinstance(layer, Bottleneck) for layer in backbone.modules()):
        raise UsageError(f"{name}: bottleneck adapters cannot be merged into their base; use or adapt the base itself")
    made = swap(backbone, lambda _, layer: isinstance(layer, LowRank), lambda layer: cast(LowRank, layer).plain())
    return bool(made)
