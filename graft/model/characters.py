"""Parts that make a word's vector from its characters: convolutions of several widths and highway layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.model.linear import Linear

ACTIVATIONS = {"relu": torch.relu, "tanh": torch.tanh}


class Filter(nn.Module):
    """Convolution over the characters of a word, then the maximum over places; its weight lies as it is published."""

    def __init__(self, width: int, size: int, count: int, activation: str) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.zeros(1, width, size, count)), nn.Parameter(torch.zeros(count))
        self.activation = ACTIVATIONS[activation]

    def forward(self, x_TWE: Tensor) -> Tensor:
        """(words, characters, their size) -> (words, count)."""
        places = F.conv1d(x_TWE.transpose(1, 2), self.weight[0].permute(2, 1, 0))
        return self.activation(places.amax(-1) + self.bias)


class Highway(nn.Module):
    """g relu(T x) + (1 - g) x, with the gate g = sigmoid(C x) (Srivastava et al. 2015)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.carry, self.transform = Linear(size, size), Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        """(T, size) -> (T, size)."""
        return torch.lerp(x, torch.relu(self.transform(x)), torch.sigmoid(self.carry(x)))
