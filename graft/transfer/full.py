"""Full fine-tuning: everything learns."""

from __future__ import annotations

from graft.grafted import Model
from graft.transfer import Group

DECAY = 0.01
"""Weight decay of matrices (Devlin et al. 2019); embeddings, biases and normalizations have none."""


class Full:
    """Every parameter of backbone and head learns."""

    name = "full"

    def begin(self, model: Model) -> list[Group]:
        """Matrices decay; embeddings, biases and normalization weights do not."""
        embeddings = {id(p) for name, p in model.backbone.named_parameters() if "embedding" in name}
        learning = list(model.parameters())
        for parameter in learning:
            parameter.requires_grad_(True)
        decaying = [p for p in learning if p.dim() > 1 and id(p) not in embeddings]
        others = [p for p in learning if p.dim() <= 1 or id(p) in embeddings]
        return [Group(parameters=decaying, decay=DECAY), Group(parameters=others)]

    def finish(self, model: Model) -> None:
        """Nothing is left to do."""


STRATEGY = Full()
