"""Partial fine-tuning: only the last blocks and the head learn.

Of an encoder and a decoder, the last blocks are those of the decoder, unless the head embeds: that reads the encoder.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graft.errors import UsageError
from graft.grafted import Model
from graft.transfer import Group, Strategy, decaying, let_learn, stages


@dataclass(frozen=True, kw_only=True)
class Partial(Strategy):
    """The last blocks and the head learn; a step costs no gradients below them.

    Attributes:
        blocks: how many, counted from the top. Where a decoder has fewer, the encoder's last ones follow.
        decay: weight decay of matrices.
    """

    name: ClassVar[str] = "partial"
    learning_rate: ClassVar[float] = 1e-4
    blocks: int = 2
    decay: float = 0.01

    def begin(self, model: Model) -> list[Group]:
        """The top of the model.

        Raises:
            UsageError: it has not so many blocks.
        """
        top, *blocks, _ = stages(model)
        if not 1 <= self.blocks <= len(blocks):
            raise UsageError(
                f"strategy partial: blocks is {self.blocks}, this model has {len(blocks)}; "
                f"choose 1 to {len(blocks)}, or use strategy full"
            )
        learning = [*top, *(parameter for block in blocks[: self.blocks] for parameter in block)]
        let_learn(model, learning)
        return decaying(model, learning, decay=self.decay)


STRATEGY = Partial
