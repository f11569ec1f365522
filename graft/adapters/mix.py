"""A frozen backbone whose head reads a learned mix of all layers instead of the last (Peters et al. 2018)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.batch import Packed
from graft.heads import pool
from graft.model.scalar_mix import ScalarMix
from graft.model.transformer import Transformer


class LayerMix(nn.Module):
    """For every token of a sequence the same: the mean over it of gamma * sum_l softmax(weights)_l LayerNorm(h_l).

    Whichever token a head reads, it reads the mean; so heads stay as they are published.
    """

    def __init__(self, layers: int) -> None:
        """The mean of all layers.

        Args:
            layers: of the backbone; what its first block reads is mixed in as one more.
        """
        super().__init__()
        self.shares = ScalarMix(layers + 1)

    def forward(self, layers: Sequence[Tensor], batch: Packed) -> Tensor:
        """The layers' hidden states, (T, D) each -> (T, D)."""
        mixed_TD = self.shares([_normalized(hidden_TD) for hidden_TD in layers])
        return pool(mixed_TD, batch, "mean").to(layers[-1].dtype)[batch.owner_T]


class Beside(nn.Module):
    """The layers beside each other, (T, (layers + 1) D): what a mix is learned from."""

    def forward(self, layers: Sequence[Tensor], batch: Packed) -> Tensor:
        """The layers' hidden states, (T, D) each -> (T, (layers + 1) D)."""
        return torch.cat([_normalized(hidden_TD) for hidden_TD in layers], dim=-1)


def mix(backbone: Transformer, weights: Tensor, gamma: float | Tensor) -> None:
    """Freeze a backbone, and let what is grafted on it read a mix of its layers.

    Args:
        backbone: the backbone.
        weights: what the softmax makes shares of, (layers + 1,).
        gamma: the factor on the mix, a number.
    """
    put_in = LayerMix(backbone.config.layers)
    with torch.no_grad():
        put_in.shares.weights.copy_(weights)
        put_in.shares.gamma.copy_(torch.as_tensor(gamma))
    weight = backbone.token_embedding.weight
    backbone.requires_grad_(False)
    backbone.mix = put_in.to(dtype=weight.dtype, device=weight.device).eval()


def _normalized(hidden_TD: Tensor) -> Tensor:
    return F.layer_norm(hidden_TD.float(), hidden_TD.shape[-1:])
