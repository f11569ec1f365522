"""``learned.safetensors``: what was learned beside a frozen base, by Graft's own names (docs/adapters.md)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn

from graft.adapters.layers import Bottleneck
from graft.adapters.mix import mix
from graft.errors import ModelError, listed
from graft.model.transformer import Transformer
from graft.shards import Shards

LEARNED = "learned.safetensors"
PARTS = ("shrink.weight", "shrink.bias", "grow.weight", "grow.bias")
WEIGHTS, GAMMA = "backbone.mix.shares.weights", "backbone.mix.shares.gamma"
"""Of a mix of layers."""


def find(folder: Path, shards: Shards, own: Mapping[str, torch.Size], depth: int) -> dict[str, int]:
    """The layers that have a bottleneck, by our names without ``backbone.``, and its size.

    Args:
        folder: for messages.
        shards: the tensors of the file.
        own: names and shapes of the base's tensors, beginning with ``backbone.``.
        depth: blocks of the base.

    Raises:
        ModelError: a tensor belongs to no layer or has another shape, or a part of a bottleneck is missing.
    """
    shapes = {name: tuple(entry.shape) for name, entry in shards.entries.items()}
    layers = [name.removesuffix(f".{PARTS[0]}") for name in shapes if name.endswith(f".{PARTS[0]}")]
    expected = {name: tuple(own[name]) for name in shapes.keys() & own.keys()}
    sizes: dict[str, int] = {}
    for layer in layers:
        out, size = own.get(f"{layer}.weight", (0,))[0], (*shapes[f"{layer}.{PARTS[0]}"], 0)[0]
        wanted = ((size, out), (size,), (out, size), (out,))
        expected |= {f"{layer}.{part}": shape for part, shape in zip(PARTS, wanted, strict=True) if out and size}
        sizes[layer.removeprefix("backbone.")] = size
    expected |= {WEIGHTS: (depth + 1,), GAMMA: ()} if WEIGHTS in shapes or GAMMA in shapes else {}
    faults = {
        "tensors that fit nothing in the base": [n for n in shapes if n not in expected and not n.startswith("head.")],
        "tensors missing": [name for name in expected if name not in shapes],
        "tensors of another shape": [name for name in expected if shapes.get(name, expected[name]) != expected[name]],
    }
    said = [f"{what} ({len(which)}): {listed(which[:3])}" for what, which in faults.items() if which]
    if said:
        raise ModelError(f"{folder / LEARNED}: does not fit its base: {'; '.join(said)}")
    return sizes


def put_in(backbone: Transformer, sizes: Mapping[str, int], shards: Shards, dtype: torch.dtype) -> None:
    """Wrap the layers of a backbone, and mix them where the file says how."""
    for name, size in sizes.items():
        layer = backbone.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        wrapped = Bottleneck(layer, size)
        given = {part: shards.tensor(f"backbone.{name}.{part}").to(dtype) for part in PARTS}
        wrapped.load_state_dict(given, strict=False, assign=True)
        backbone.set_submodule(name, wrapped)
    if mixed(shards):
        mix(backbone, shards.tensor(WEIGHTS), shards.tensor(GAMMA))


def mixed(shards: Shards) -> bool:
    """Whether a file holds a mix of layers."""
    return WEIGHTS in shards.entries


def further(shards: Shards, sizes: Mapping[str, int]) -> list[str]:
    """The tensors of the file beyond bottlenecks and mix: those that take the place of the base's, and the head's."""
    inner = {WEIGHTS, GAMMA} | {f"backbone.{name}.{part}" for name in sizes for part in PARTS}
    return [name for name in shards.entries if name not in inner]
