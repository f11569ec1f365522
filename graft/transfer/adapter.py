"""Bottleneck adapters: two small layers after attention and after feed-forward (Houlsby et al. 2019)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graft import adapters
from graft.adapters import Bottleneck
from graft.errors import UsageError
from graft.grafted import Model
from graft.transfer import Group, Strategy

PLACES = ("output", "down")
"""The last layers of attention and of feed-forward; a mixture of experts has no such layer and stays as it is."""


@dataclass(frozen=True, kw_only=True)
class Adapter(Strategy):
    """Bottlenecks, normalizations and the head learn; everything else stays bit for bit what it was.

    A bottleneck lies before the dropout of its part of the block; in the paper it lies after.

    Attributes:
        size: dimensions of the bottleneck.
        norms: the normalizations of the blocks learn as well (section 2.1).
    """

    name: ClassVar[str] = "adapter"
    learning_rate: ClassVar[float] = 5e-4
    unchanged_at_start: ClassVar[bool] = False
    size: int = 64
    norms: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 1 <= self.size <= 2**16:
            raise UsageError(f"strategy adapter: size is {self.size!r}, expected 1 to 65536")

    def begin(self, model: Model) -> list[Group]:
        """Put the bottlenecks in."""
        learning = adapters.add(
            model.backbone,
            model.head,
            model.base,
            [place for place in PLACES if place in adapters.layers(model.backbone).values()],
            lambda layer: Bottleneck(layer, self.size).fresh(),
            lambda name: self.norms and "blocks." in name and "_norm." in name,
        )
        return [Group(parameters=learning)]


STRATEGY = Adapter
