"""Linear layers with something small beside them that learns in their place."""

from __future__ import annotations

import math
from typing import Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.model.layers import Dropout
from graft.model.linear import Linear

DEVIATION = 1e-3
"""Of a fresh bottleneck's weights: what it adds is of the order of a thousandth of its input."""


class Wrapped(Linear):
    """A Linear layer that does more; weight and bias are those of the layer it stands for, under the same names."""

    def __init__(self, layer: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = layer.in_features, layer.out_features
        self.weight, self.bias = layer.weight, layer.bias
        self.train(layer.training)

    def fresh(self) -> Self:
        """Give what was added its first values, from the current random state."""
        raise NotImplementedError

    def plain(self) -> Linear:
        """The layer alone."""
        with torch.device("meta"):
            layer = Linear(self.in_features, self.out_features, bias=self.bias is not None)
        layer.weight, layer.bias = self.weight, self.bias
        return layer.train(self.training)


class LowRank(Wrapped):
    """W x + b + scale B A x (Hu et al. 2021, equation 3), with dropout before A while training.

    A begins at random, B at zero: at first nothing is added.
    """

    def __init__(self, layer: nn.Linear, rank: int, scale: float, dropout: float = 0.0) -> None:
        """Wrap a layer; A and B have no values yet.

        Args:
            layer: with W and b.
            rank: r, rows of A and columns of B.
            scale: alpha / r.
            dropout: rate.
        """
        super().__init__(layer)
        self.scale, self.dropout = scale, Dropout(dropout)
        self.lora_a = nn.Parameter(self.weight.new_empty(rank, self.in_features))
        self.lora_b = nn.Parameter(self.weight.new_empty(self.out_features, rank))

    def fresh(self) -> Self:
        """A uniform as a fresh Linear layer's weights, B zero."""
        bound = 1 / math.sqrt(self.in_features)
        nn.init.uniform_(self.lora_a, -bound, bound)
        nn.init.zeros_(self.lora_b)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(T, in) -> (T, out)."""
        low = F.linear(self.dropout(x), self.lora_a)
        return super().forward(x) + F.linear(low * self.scale, self.lora_b)

    def plain(self) -> Linear:
        """The layer with what was learned folded in: W + scale B A, worked out in float32."""
        layer = super().plain()
        with torch.no_grad():
            folded = torch.addmm(self.weight.float(), self.lora_b.float(), self.lora_a.float(), alpha=self.scale)
            layer.weight = nn.Parameter(folded.to(self.weight.dtype))
        return layer


class Bottleneck(Wrapped):
    """y + U gelu(V y + c) + d of y = W x + b, with V to few dimensions and U back (Houlsby et al. 2019, section 2.1).

    U and V begin near zero, so at first almost nothing is added.
    """

    def __init__(self, layer: nn.Linear, size: int) -> None:
        """Wrap a layer; the bottleneck has no values yet.

        Args:
            layer: with W and b.
            size: dimensions of the bottleneck.
        """
        super().__init__(layer)
        with torch.device("meta"):
            inner = Linear(self.out_features, size), Linear(size, self.out_features)
        self.shrink, self.grow = (layer.to_empty(device=self.weight.device).to(self.weight.dtype) for layer in inner)

    def fresh(self) -> Self:
        """Normal weights of a small deviation, biases zero."""
        for inner in (self.shrink, self.grow):
            nn.init.normal_(inner.weight, std=DEVIATION)
            nn.init.zeros_(inner.bias)
        return self

    def forward(self, x: Tensor) -> Tensor:
        """(T, in) -> (T, out)."""
        y = super().forward(x)
        return y + self.grow(F.gelu(self.shrink(y)))  # type: ignore[no-any-return]
