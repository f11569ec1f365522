"""LoRA: low-rank factors beside frozen Linear layers (Hu et al. 2021). A model is saved as one or two megabytes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graft import adapters
from graft.adapters import LowRank
from graft.errors import UsageError
from graft.grafted import Model
from graft.transfer import Group, Strategy


@dataclass(frozen=True, kw_only=True)
class Lora(Strategy):
    """Factors beside chosen layers and the head learn; everything else stays bit for bit what it was.

    Attributes:
        rank: r, how many directions a layer may learn.
        alpha: what is added is scaled by alpha / r.
        dropout: rate before the factors while training.
        targets: names of the Linear layers: query, key, value, output, up, down, gate; "all" is every one of a block.
        merge: fold the factors into the weights at the end, and save a whole model.
    """

    name: ClassVar[str] = "lora"
    learning_rate: ClassVar[float] = 1e-3
    rank: int = 8
    alpha: float = 16.0
    dropout: float = 0.0
    targets: tuple[str, ...] = ("query", "value")
    merge: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        bounds = {
            "rank": (1, 2**16, "1 to 65536"),
            "alpha": (1e-6, 1e6, "above 0"),
            "dropout": (0.0, 0.99, "0 to 0.99"),
        }
        for name, (least, most, expected) in bounds.items():
            if not least <= getattr(self, name) <= most:
                raise UsageError(f"strategy lora: {name} is {getattr(self, name)!r}, expected {expected}")

    def begin(self, model: Model) -> list[Group]:
        """Put the factors in."""
        learning = adapters.add(
            model.backbone,
            model.head,
            model.base,
            self.targets,
            lambda layer: LowRank(layer, self.rank, self.alpha / self.rank, self.dropout).fresh(),
        )
        return [Group(parameters=learning)]

    def finish(self, model: Model) -> None:
        """Merge, where asked to."""
        if self.merge:
            model.merge()


STRATEGY = Lora
