"""Full fine-tuning: everything learns."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graft.grafted import Model
from graft.transfer import Group, Strategy


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
        embeddings = {id(p) for name, p in model.backbone.named_parameters() if "embedding" in name}
        learning = list(model.parameters())
        for parameter in learning:
            parameter.requires_grad_(True)
        decaying = [p for p in learning if p.dim() > 1 and id(p) not in embeddings]
        others = [p for p in learning if p.dim() <= 1 or id(p) in embeddings]
        return [Group(parameters=decaying, decay=self.decay), Group(parameters=others)]


STRATEGY = Full
