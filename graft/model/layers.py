"""The parts of a block: linear layers, normalization, dropout, attention, feed-forward."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.errors import ModelError, nearest
from graft.model.attend import attend
from graft.model.config import Config
from graft.model.layout import Layout
from graft.model.linear import Linear

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "gelu": F.gelu,
    "gelu_tanh": lambda x: F.gelu(x, approximate="tanh"),
    "relu": F.relu,
    "silu": F.silu,
}


class Cache(Protocol):
    """Keys and values of earlier tokens, in fixed slots."""

    def update(self, layer: int, k_THK: Tensor, v_THK: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Store the new tokens' keys and values and return all of them, (B, M, H, K) each."""


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


class Attention(nn.Module):
    """Multi-head self-attention with separate query, key and value layers."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        size = config.hidden_size
        self.layer, self.causal = layer, config.causal
        self.shape = (config.heads, config.head_size)
        self.scale = config.head_size**-0.5
        self.query, self.key, self.value, self.output = (Linear(size, size) for _ in range(4))
        self.dropout = Dropout(config.attention_dropout)

    def forward(self, x_TD: Tensor, layout: Layout, cache: Cache | None = None) -> Tensor:
        """(T, D) -> (T, D)."""
        q_THK, k_THK, v_THK = (layer(x_TD).unflatten(-1, self.shape) for layer in (self.query, self.key, self.value))
        if cache is not None:
            k_THK, v_THK = cache.update(self.layer, k_THK, v_THK, layout)
        dropout = self.dropout.mask if self.dropout.active else None
        mixed_THK = attend(q_THK, k_THK, v_THK, layout, causal=self.causal, scale=self.scale, dropout=dropout)
        return self.output(mixed_THK.flatten(1))  # type: ignore[no-any-return]


class FeedForward(nn.Module):
    """Two linear layers with an activation between."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.up = Linear(config.hidden_size, config.feed_forward_size)
        self.down = Linear(config.feed_forward_size, config.hidden_size)
        self.activation = activation(config.activation)

    def forward(self, x_TD: Tensor) -> Tensor:
        """(T, D) -> (T, D)."""
        return self.down(self.activation(self.up(x_TD)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """One layer of the backbone.

    pre:   x ──┬─ norm ─ attention ─ dropout ─ + ──┬─ norm ─ feed-forward ─ dropout ─ + ──
               └───────────────────────────────┘   └──────────────────────────────────┘
    post:  x ──┬─ attention ─ dropout ─ + ─ norm ──┬─ feed-forward ─ dropout ─ + ─ norm ──
               └────────────────────────┘          └───────────────────────────┘
    """

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.attention, self.feed_forward = Attention(config, layer), FeedForward(config)
        self.attention_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.feed_forward_norm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_TD: Tensor, layout: Layout, cache: Cache | None = None) -> Tensor:
        """(T, D) -> (T, D)."""
        if self.pre:
            x_TD = x_TD + self.dropout(self.attention(self.attention_norm(x_TD), layout, cache))
            return x_TD + self.dropout(self.feed_forward(self.feed_forward_norm(x_TD)))  # type: ignore[no-any-return]
        x_TD = self.attention_norm(x_TD + self.dropout(self.attention(x_TD, layout, cache)))
        return self.feed_forward_norm(x_TD + self.dropout(self.feed_forward(x_TD)))  # type: ignore[no-any-return]
