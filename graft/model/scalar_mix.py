"""A learned mix of a backbone's layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ScalarMix(nn.Module):
    """gamma * sum over layers of softmax(weights)_l h_l (Peters et al. 2018, equation 1).

    With `normalized`, every layer first gets mean 0 and variance 1 over all numbers of the batch, as published: what a
    token gives then depends on what else is in the batch.
    """

    def __init__(self, layers: int, *, normalized: bool = False) -> None:
        super().__init__()
        self.weights, self.gamma = nn.Parameter(torch.zeros(layers)), nn.Parameter(torch.ones(()))
        self.normalized = normalized

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """The layers' hidden states, (T, D) each -> (T, D)."""
        if self.normalized:
            layers = [F.layer_norm(hidden_TD, hidden_TD.shape, eps=1e-12) for hidden_TD in layers]
        shares = self.weights.softmax(0)
        mixed_TD = sum((share * hidden_TD for share, hidden_TD in zip(shares, layers, strict=True)), torch.zeros(()))
        return self.gamma * mixed_TD
