"""For few rows: texts of one label are drawn together, others apart; then the head is solved for.

Tunstall et al. (2022), SetFit: from 8 rows a label on, pairs are many where rows are few. The pairs of a batch are all
looked at at once, with the loss of Khosla et al. (2020). Head and folder are those of probe.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from graft.errors import UsageError
from graft.grafted import Model
from graft.heads import Classify
from graft.transfer import Group, decaying, let_learn
from graft.transfer.probe import Probe, check


@dataclass(frozen=True, kw_only=True)
class Contrastive:
    """The backbone learns from pairs of rows, then the head is solved for on its features.

    Attributes:
        temperature: of the softmax over cosines; the lower, the more the nearest rows count.
        decay: weight decay of matrices.
    """

    name: ClassVar[str] = "contrastive"
    learning_rate: ClassVar[float] = 2e-5
    temperature: float = 0.1
    decay: float = 0.01

    def begin(self, model: Model) -> list[Group]:
        """The backbone learns, its token embedding as well; the head has nothing to say yet.

        Raises:
            UsageError: the rows have no labels to be alike or different by, or the head cannot be solved for.
        """
        if not isinstance(model.head, Classify) or model.head.problem != "single":
            raise UsageError("strategy contrastive needs rows with one label each; use strategy full")
        if self.temperature <= 0:
            raise UsageError(f"strategy contrastive: temperature is {self.temperature:g}, expected above 0")
        check(model, self.name)
        learning = list(model.backbone.parameters())
        let_learn(model, learning)
        return decaying(model, learning, decay=self.decay)

    def solve(
        self,
        model: Model,
        sequences: Sequence[Sequence[int]],
        types: Sequence[Sequence[int] | None],
        targets: Tensor,
        *,
        seed: int = 0,
        balanced: bool = False,
        dtype: torch.dtype = torch.float32,
        progress: Callable[[int], None] | None = None,
        windows: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Fit the head on what the backbone has learned; arguments as for `Probe.solve`."""
        check(model, self.name)
        how: dict[str, Any] = {"seed": seed, "balanced": balanced, "dtype": dtype, "progress": progress}
        return Probe().solve(model, sequences, types, targets, windows=windows, **how)


STRATEGY = Contrastive
