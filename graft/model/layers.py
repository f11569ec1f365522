"""The parts of a block that look at one token: normalization, dropout, feed-forward."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.errors import ModelError, nearest
from graft.model.config import Config
from graft.model.linear import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


def activation(name: str) -> Callable[[Tensor], Tensor]:
    """The activation function of that name.

    Raises:
        ModelError: there is none of that name.
    """
    if name not in ACTIVATIONS:
        raise ModelError(f"unknown activation {name!r}: {nearest(str(name), ACTIVATIONS)}")
    return ACTIVATIONS[name]


class Dropout(nn.Module):
    """Dropout (Srivastava et al. 2014) whose random numbers cost little on a processor.

    One 64-bit draw decides eight values: a byte below ``round(256 rate)`` drops its value. The survivors are scaled by
    the exact rate used, so the expectation is unchanged; the rate itself is rounded to a multiple of 1/256.
    """

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    @property
    def active(self) -> bool:
        """Whether this would change anything now."""
        return self.training and self.rate > 0

    def forward(self, x: Tensor) -> Tensor:
        """Drop values of a tensor of any shape."""
        return x * self.mask(x) if self.active else x

    def mask(self, like: Tensor) -> Tensor:
        """Factors for a tensor of this shape and dtype: 0 for what is dropped, one and the same scale for the rest."""
        threshold = round(self.rate * 256)
        if like.device.type != "cpu" or not 0 < threshold < 256:  # a byte cannot tell such a rate from 0 or from 1
            return F.dropout(torch.ones_like(like, requires_grad=False), self.rate)
        words = torch.empty((like.numel() + 7) // 8, dtype=torch.int64).random_(torch.iinfo(torch.int64).min, None)
        drawn = words.view(torch.uint8)[: like.numel()].view(like.shape)
        keep = torch.ge(drawn, threshold, out=torch.empty_like(like, requires_grad=False))
        return keep.mul_(256 / (256 - threshold))


class RMSNorm(nn.Module):
    """Root-mean-square normalization (Zhang & Sennrich 2019), computed in float32 as the published models do."""

    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(size)), eps

    def forward(self, x: Tensor) -> Tensor:
        """(..., D) -> (..., D)."""
        wide = x.float()
        scaled = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * scaled.to(x.dtype)


def norm(config: Config, size: int | None = None) -> nn.Module:
    """The normalization a model uses, over the hidden size or another."""
    kind = RMSNorm if config.norm_kind == "rms" else nn.LayerNorm
    return kind(size or config.hidden_size, eps=config.norm_eps)


class FeedForward(nn.Module):
    """down(activation(up(x))), or with a gate down(activation(gate(x)) * up(x))."""

    def __init__(self, config: Config, size: int | None = None) -> None:
        super().__init__()
        hidden, inner = config.hidden_size, size or config.feed_forward_size
        self.gate = Linear(hidden, inner, bias="gate" in config.biases) if config.gated else None
        self.up = Linear(hidden, inner, bias="up" in config.biases)
        self.down = Linear(inner, hidden, bias="down" in config.biases)
        self.activation, self.dropout = activation(config.activation), Dropout(config.activation_dropout)

    def forward(self, x_TD: Tensor) -> Tensor:
        """(T, D) -> (T, D)."""
        inner_TF = self.activation(self.up(x_TD) if self.gate is None else self.gate(x_TD))
        if self.gate is not None:
            inner_TF = inner_TF * self.up(x_TD)
        return self.down(self.dropout(inner_TF))  # type: ignore[no-any-return]
