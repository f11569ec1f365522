"""Putting other layers in the place of a model's Linear layers, and back."""

from __future__ import annotations

from collections.abc import Callable

from torch import nn


def swap(
    model: nn.Module, pick: Callable[[str, nn.Module], bool], make: Callable[[nn.Linear], nn.Module]
) -> dict[str, nn.Module]:
    """Replace chosen Linear layers in place; the same call brings them back.

    Args:
        model: whose layers.
        pick: whether the layer of this name is to be replaced.
        make: what takes its place.

    Returns:
        What was put in, by name.
    """
    chosen = {
        name: layer for name, layer in model.named_modules() if isinstance(layer, nn.Linear) and pick(name, layer)
    }
    made = {name: make(layer) for name, layer in chosen.items()}
    for name, layer in made.items():
        model.set_submodule(name, layer)
    return made
