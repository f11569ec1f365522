"""BitFit: only biases and the head learn; in models without biases, the weights of their norms.

Ben Zaken, Ravfogel & Goldberg (2022). Biases are a thousandth of the weights; they want a higher learning rate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from graft.errors import UsageError
from graft.grafted import Model
from graft.transfer import Group, Strategy, head_alone, let_learn


@dataclass(frozen=True, kw_only=True)
class BitFit(Strategy):
    """Biases and the head learn, without weight decay."""

    name: ClassVar[str] = "bitfit"
    learning_rate: ClassVar[float] = 1e-3

    def begin(self, model: Model) -> list[Group]:
        """Every bias of the backbone, or where it has none every norm's weights.

        Raises:
            UsageError: it has neither.
        """
        body = list(model.backbone.named_parameters())
        few = [parameter for name, parameter in body if name.endswith("bias")]
        few = few or [parameter for name, parameter in body if name.endswith("norm.weight")]
        if not few:
            raise UsageError(f"{model.family.name} models have no biases and no norms for bitfit; use strategy partial")
        learning = [*few, *head_alone(model)]
        let_learn(model, learning)
        return [Group(parameters=learning)]


STRATEGY = BitFit
