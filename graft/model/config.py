"""The one description of a backbone. A field is here only because two families differ in it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from graft.errors import ModelError

LARGEST_BYTES = 2**42
"""No backbone larger than 4 TiB in float32 is believed: such a configuration is a mistake or an attack."""

MOST_LAYERS = 1024
"""Building a layer takes time before any weight is read; published models have up to some 130."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes and choices of one backbone, in the field's standard terms.

    Attributes:
        vocab_size: rows of the token embedding, V.
        hidden_size: D.
        layers: number of blocks.
        heads: attention heads, H; they divide the hidden size.
        feed_forward_size: F.
        positions: learned positions, and so the longest sequence.
        token_types: rows of the token-type embedding; 0 means there is none.
        causal: a token sees only itself and those before it.
        norm: where a block normalizes: "post" after adding the residual, as the original Transformer, or "pre".
        embedding_norm: the embeddings are normalized before the first block.
        norm_eps: the epsilon of every normalization.
        activation: "gelu" (exact), "gelu_tanh" (tanh approximation), "relu" or "silu".
        dropout: rate after embeddings, attention and feed-forward while training.
        embedding_dropout: rate after the embeddings, where it is another one.
        attention_dropout: rate on attention probabilities while training.
        initializer_range: standard deviation of fresh weights.
    """

    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    feed_forward_size: int
    positions: int
    token_types: int = 0
    causal: bool = False
    norm: Literal["post", "pre"] = "post"
    embedding_norm: bool = False
    norm_eps: float = 1e-5
    activation: str = "gelu"
    dropout: float = 0.0
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        faults = [*_size_faults(self), *_rate_faults(self)]
        if not faults and self.hidden_size % self.heads:
            faults.append(f"hidden size {self.hidden_size} is not a multiple of {self.heads} attention heads")
        if not faults and self.parameters * 4 > LARGEST_BYTES:
            faults.append(f"{self.parameters:,} parameters, more than any model Graft can hold")
        if self.norm not in ("post", "pre"):
            faults.append(f"norm is {self.norm!r}, expected 'post' or 'pre'")
        if faults:
            raise ModelError("the model's configuration makes no sense: " + "; ".join(faults))

    @property
    def head_size(self) -> int:
        """K, the size of one attention head."""
        return self.hidden_size // self.heads

    @property
    def parameters(self) -> int:
        """Parameters of the backbone, computed before anything is allocated."""
        width, inner = self.hidden_size, self.feed_forward_size
        rows = self.vocab_size + self.positions + self.token_types
        block = 4 * (width * width + width) + 2 * width * inner + inner + width + 4 * width
        return rows * width + self.layers * block + 2 * width * (self.embedding_norm + (self.norm == "pre"))


def _size_faults(config: Config) -> list[str]:
    found = []
    for name in ("vocab_size", "hidden_size", "layers", "heads", "feed_forward_size", "positions", "token_types"):
        value = getattr(config, name)
        least, most = 0 if name == "token_types" else 1, MOST_LAYERS if name == "layers" else 2**31
        if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
            found.append(f"{name} is {value!r:.60}, expected a whole number from {least} to {most}")
    return found


def _rate_faults(config: Config) -> list[str]:
    found = []
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        if field.name.endswith("dropout") and not (isinstance(value, int | float) and 0 <= value < 1):
            found.append(f"{field.name} is {value!r:.60}, expected at least 0 and below 1")
        if field.name in ("norm_eps", "initializer_range") and not (isinstance(value, int | float) and 0 < value < 1):
            found.append(f"{field.name} is {value!r:.60}, expected above 0 and below 1")
    return found
