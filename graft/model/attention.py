"""The part of a block in which tokens look at one another."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Protocol

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from graft.batch import Packed
from graft.model.attend import Bias, attend
from graft.model.config import Config
from graft.model.layers import Dropout, norm
from graft.model.layout import Layout
from graft.model.linear import Linear
from graft.model.rotary import turn


class Cache(Protocol):
    """Keys and values of earlier tokens, in fixed slots."""

    def update(self, layer: int, k_THK: Tensor, v_THK: Tensor, layout: Layout) -> tuple[Tensor, Tensor]:
        """Store the new tokens' keys and values and return all of them, (slots, H, M, K) each."""


@dataclass(frozen=True)
class Memory:
    """What an encoder made of a batch, for a decoder to look at: as often as it likes, with the same weights.

    Attributes:
        batch: the encoder's sequences.
        hidden_TD: its hidden states; there may be more rows than tokens.
        kept: keys and values of each layer of the decoder, once it has looked: packed, (S, H, K) each, or in slots,
            (B, H, M, K) each, where it will look again for every new token.
        readers: how many of the decoder's sequences, side by side, look at each of the encoder's; () is one each.
    """

    batch: Packed
    hidden_TD: Tensor
    kept: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)
    readers: tuple[int, ...] = ()

    def beside(self, batch: Packed) -> Packed:
        """The decoder's sequences, those that look at the same one taken together."""
        parts = torch.split(batch.lengths_B, list(self.readers)) if self.readers else ()
        return Packed(batch.ids_T, torch.stack([part.sum() for part in parts])) if parts else batch

    def slots(self, x_SHK: Tensor) -> Tensor:
        """Packed keys or values in slots, (B, H, M, K)."""
        parts = torch.split(x_SHK[: len(self.batch.ids_T)], list(self.batch.lengths))
        return pad_sequence(list(parts), batch_first=True).transpose(1, 2)


@dataclass(frozen=True, kw_only=True)
class Flow:
    """What every block of one forward pass is given beside the hidden states.

    Attributes:
        layout: how the sequences lie.
        cache: keys and values of earlier tokens.
        bias: what to add to attention scores, for each block of sequences.
        memory: what an encoder made of other sequences, for these to look at.
        memory_layout: how the sequences lie beside those of the encoder.
    """

    layout: Layout
    cache: Cache | None = None
    bias: Bias | None = None
    memory: Memory | None = None
    memory_layout: Layout | None = None


class Attention(nn.Module):
    """Multi-head attention with separate query, key and value layers."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__()
        self.layer, self.causal, self.scale = layer, config.causal, config.scale
        self.rotary, self.window = config.position_kind == "rotary", config.window(layer)
        self.head_size = config.head_size
        wide, narrow = config.heads * config.head_size, config.key_heads * config.head_size
        self.query = Linear(config.hidden_size, wide, bias="query" in config.biases)
        self.key = Linear(config.hidden_size, narrow, bias="key" in config.biases)
        self.value = Linear(config.hidden_size, narrow, bias="value" in config.biases)
        self.output = Linear(wide, config.hidden_size, bias="output" in config.biases)
        self.whole = config.query_key_norm == "all"
        if config.query_key_norm:
            self.query_norm = norm(config, wide if self.whole else config.head_size)
            self.key_norm = norm(config, narrow if self.whole else config.head_size)
        self.normalized = bool(config.query_key_norm)
        self.dropout = Dropout(config.attention_dropout)

    def forward(self, x_TD: Tensor, flow: Flow) -> Tensor:
        """Attention of every token to its own sequence, (T, D) -> (T, D)."""
        layout = flow.layout
        q_THK, k_THK = self.queries(x_TD), self.keys(x_TD)
        v_THK = self.value(x_TD).unflatten(-1, (-1, self.head_size))
        if self.rotary:
            q_THK, k_THK = (turn(x, *layout.angles(self.head_size, x.dtype)) for x in (q_THK, k_THK))
        if flow.cache is not None:
            k_THK, v_THK = flow.cache.update(self.layer, k_THK, v_THK, layout)
        return self.mix(q_THK, k_THK, v_THK, layout, flow.bias)

    def queries(self, x_TD: Tensor) -> Tensor:
        """(T, D) -> (T, H, K)."""
        return self._heads(self.query(x_TD), self.query_norm if self.normalized else None)

    def keys(self, x_TD: Tensor) -> Tensor:
        """(T, D) -> (T, heads of keys, K)."""
        return self._heads(self.key(x_TD), self.key_norm if self.normalized else None)

    def _heads(self, x: Tensor, normalize: nn.Module | None) -> Tensor:
        if normalize is not None and self.whole:
            x = normalize(x)
        x_THK = x.unflatten(-1, (-1, self.head_size))  # type: ignore[no-untyped-call]
        return x_THK if normalize is None or self.whole else normalize(x_THK)  # type: ignore[no-any-return]

    def mix(self, q_THK: Tensor, k_SHK: Tensor, v_SHK: Tensor, layout: Layout, bias: Bias | None = None) -> Tensor:
        """What the queries find, through the output layer, (T, D)."""
        mixed_THK = attend(
            q_THK,
            k_SHK,
            v_SHK,
            layout,
            causal=self.causal,
            scale=self.scale,
            window=self.window,
            bias=bias,
            dropout=self.dropout.mask if self.dropout.active else None,
        )
        return self.output(mixed_THK.flatten(1))  # type: ignore[no-any-return]
