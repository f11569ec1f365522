"""Gradual unfreezing: block after block from the top, and smaller rates further down.

Howard & Ruder (2018), sections 3.2 and 3.3: what is general lies at the bottom, and is touched last and least.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graft.errors import UsageError
from graft.grafted import Model
from graft.transfer import Group, Strategy, decaying, let_learn, stages


@dataclass(frozen=True, kw_only=True)
class Gradual(Strategy):
    """The head and the top learn at once; with every epoch more blocks from the top join, at last the embeddings.

    Attributes:
        blocks: how many join at the beginning of each epoch, the first one included.
        layer_decay: factor on the learning rate from each block to the one below.
        decay: weight decay of matrices.
        head_rate: 0 here, the rate of the top block: a faster head was measured to do harm (docs/transfer.md).
    """

    name: ClassVar[str] = "gradual"
    learning_rate: ClassVar[float] = 2e-4
    blocks: int = 1
    layer_decay: float = 0.9
    decay: float = 0.01
    head_rate: float = 0.0

    def begin(self, model: Model) -> list[Group]:
        """One pair of groups for each depth.

        Raises:
            UsageError: the settings make no sense.
        """
        if self.blocks < 1:
            raise UsageError(f"strategy gradual: blocks is {self.blocks}, expected at least 1 to join in each epoch")
        if not 0 < self.layer_decay <= 1:
            raise UsageError(f"strategy gradual: layer_decay is {self.layer_decay:g}, expected above 0 and at most 1")
        self.epoch(model, 0, 1)
        return [
            group
            for depth, stage in enumerate(stages(model))
            for group in decaying(model, stage, decay=self.decay, rate=self.layer_decay ** max(0, depth - 1))
        ]

    def epoch(self, model: Model, number: int, epochs: int) -> None:
        """Let the next blocks learn."""
        learning = stages(model)[: 1 + self.blocks * (number + 1)]
        let_learn(model, [parameter for stage in learning for parameter in stage])


STRATEGY = Gradual
