"""One layer of a backbone."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from graft.model.attention import Attention, Flow
from graft.model.config import Config
from graft.model.layers import Dropout, FeedForward, norm
from graft.model.mixture import Mixture


class Block(nn.Module):
    """One layer of the backbone; `memory` is attention to an encoder's states, in decoders that have one.

    pre:   x ──┬─ norm ─ attention ─ dropout ─ + ──(memory likewise)──┬─ norm ─ feed-forward ─ dropout ─ + ──
               └───────────────────────────────┘                      └──────────────────────────────────┘
    post:  x ──┬─ attention ─ dropout ─ + ─ norm ──┬─ feed-forward ─ dropout ─ + ─ norm ──
               └────────────────────────┘          └───────────────────────────┘
    """

    attention: nn.Module
    feed_forward: nn.Module

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.attention = Attention(config, layer)
        sparse = config.experts is not None and layer not in config.dense_layers
        self.feed_forward = Mixture(config) if sparse else FeedForward(config)
        self.attention_norm, self.feed_forward_norm = norm(config), norm(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x_TD: Tensor, flow: Flow) -> Tensor:
        """(T, D) -> (T, D)."""
        x_TD = self._add(x_TD, self.attention_norm, lambda y_TD: self.attention(y_TD, flow))
        x_TD = self.look(x_TD, flow)
        return self._add(x_TD, self.feed_forward_norm, self.feed_forward)

    def look(self, x_TD: Tensor, flow: Flow) -> Tensor:
        """Between the two: nothing, unless a family looks at an encoder here."""
        return x_TD

    def _add(self, x_TD: Tensor, normalize: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        if self.pre:
            return x_TD + self.dropout(part(normalize(x_TD)))  # type: ignore[no-any-return]
        return normalize(x_TD + self.dropout(part(x_TD)))  # type: ignore[no-any-return]
