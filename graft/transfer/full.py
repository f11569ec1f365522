"""Full fine-tuning: everything learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graft.grafted import Model
from graft.transfer import Group, Strategy, decaying, let_learn


@dataclass(frozen=True, kw_only=True)
class Full(Strategy):
    """Every parameter of backbone and head learns.

    Attributes:
        decay: weight decay of matrices (Devlin et al. 2019); embeddings, biases and normalizations have none.
    """

    name: ClassVar[str] = "full"
    tokens: ClassVar[bool] = True
    decay: float = 0.01

    def begin(self, model: Model) -> list[Group]:
        """Matrices decay; embeddings, biases and normalization weights do not."""
        learning = list(model.parameters())
        let_learn(model, learning)
        return decaying(model, learning, decay=self.decay)


STRATEGY = Full
