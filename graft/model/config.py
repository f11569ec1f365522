"""The one description of a backbone. A field is here only because two families differ in it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

from graft.errors import ModelError

LARGEST_BYTES = 2**42
"""No backbone larger than 4 TiB in float32 is believed: such a configuration is a mistake or an attack."""

LINEARS = ("query", "key", "value", "output", "gate", "up", "down")
"""The linear layers of a block."""

UNLIMITED = 2**31
"""The longest sequence of models without one: more than any machine holds."""

MOST_LAYERS = 1024
"""Building a layer takes time before any weight is read; published models have up to some 130."""


@dataclass(frozen=True, kw_only=True)
class Rotary:
    """Rotary position embedding (Su et al. 2021): how fast each pair of a head's numbers turns.

    Attributes:
        base: of the geometric series of wavelengths.
        scaling: None; "linear" slows all turning by `factor`; "llama3" slows long wavelengths alone.
        factor: how much slower.
        low: llama3: wavelengths above `trained / low` are slowed in full.
        high: llama3: wavelengths below `trained / high` are left alone.
        trained: llama3: tokens the model was first trained on.
    """

    base: float = 10000.0
    scaling: Literal["linear", "llama3"] | None = None
    factor: float = 1.0
    low: float = 1.0
    high: float = 4.0
    trained: int = 8192


@dataclass(frozen=True, kw_only=True)
class Experts:
    """A mixture of experts in place of the feed-forward layer (Shazeer et al. 2017).

    Attributes:
        count: experts, E.
        chosen: experts each token is sent to.
        size: feed-forward size of one expert.
        shared: feed-forward size of the expert every token goes through; 0 means there is none.
        normalized: the chosen experts' shares are scaled to sum to one.
        balance: weight of the load-balancing loss in training.
    """

    count: int
    chosen: int
    size: int
    shared: int = 0
    normalized: bool = True
    balance: float = 0.001


@dataclass(frozen=True, kw_only=True)
class Config:
    """Sizes and choices of one backbone, in the field's standard terms.

    Attributes:
        vocab_size: rows of the token embedding, V.
        hidden_size: D.
        layers: number of blocks.
        heads: attention heads, H.
        head_size: K; 0 means hidden_size / heads.
        key_heads: heads of keys and values, shared by groups of query heads (Ainslie et al. 2023); 0 means `heads`.
        feed_forward_size: F.
        positions: the longest sequence, or UNLIMITED; with learned positions, the rows of their table.
        position_kind: "learned" (a table), "rotary", or "none" where attention itself knows (T5, XLNet).
        position_offset: rows of the table before position 0.
        rotary: how rotary positions turn.
        token_types: how many there are, and rows of their embedding; 0 means there are none.
        causal: a token sees only itself and those before it.
        windows: for each layer in turn, repeated as needed: how many tokens one sees, itself included; 0 means all.
        scale: factor on attention scores; 0 means 1 / sqrt(K).
        query_key_norm: queries and keys are normalized: "head" one head at a time, "all" over all heads, or "" not.
        norm: where a block normalizes: "post" after adding the residual, as the original Transformer, or "pre".
        norm_kind: "layer" (Ba et al. 2016) or "rms" (Zhang & Sennrich 2019).
        embedding_norm: the embeddings are normalized before the first block.
        norm_eps: the epsilon of every normalization.
        activation: "gelu" (exact), "gelu_tanh" (tanh approximation), "relu" or "silu".
        gated: the feed-forward layer multiplies its activation with a second projection (Shazeer 2020).
        biases: the linear layers of a block that have a bias.
        experts: a mixture of experts in place of the feed-forward layer.
        dense_layers: layers that keep the ordinary feed-forward layer all the same.
        dropout: rate after embeddings, attention and feed-forward while training.
        embedding_dropout: rate after the embeddings, where it is another one.
        attention_dropout: rate on attention probabilities while training.
        activation_dropout: rate after the activation of the feed-forward layer.
        initializer_range: standard deviation of fresh weights.
    """

    vocab_size: int
    hidden_size: int
    layers: int
    heads: int
    feed_forward_size: int
    positions: int
    head_size: int = 0
    key_heads: int = 0
    position_kind: Literal["learned", "rotary", "none"] = "learned"
    position_offset: int = 0
    rotary: Rotary = Rotary()
    token_types: int = 0
    causal: bool = False
    windows: tuple[int, ...] = ()
    scale: float = 0.0
    query_key_norm: Literal["", "head", "all"] = ""
    norm: Literal["post", "pre"] = "post"
    norm_kind: Literal["layer", "rms"] = "layer"
    embedding_norm: bool = False
    norm_eps: float = 1e-5
    activation: str = "gelu"
    gated: bool = False
    biases: tuple[str, ...] = LINEARS
    experts: Experts | None = None
    dense_layers: tuple[int, ...] = ()
    dropout: float = 0.0
    embedding_dropout: float = 0.0
    attention_dropout: float = 0.0
    activation_dropout: float = 0.0
    initializer_range: float = 0.02

    def __post_init__(self) -> None:
        faults = [*_size_faults(self), *_rate_faults(self), *_choice_faults(self)]
        if not faults and not self.head_size and self.hidden_size % self.heads:
            faults.append(f"hidden size {self.hidden_size} is not a multiple of {self.heads} attention heads")
        if not faults:
            object.__setattr__(self, "head_size", self.head_size or self.hidden_size // self.heads)
            object.__setattr__(self, "key_heads", self.key_heads or self.heads)
            object.__setattr__(self, "scale", self.scale or self.head_size**-0.5)
            faults += _group_faults(self)
        if not faults and self.parameters * 4 > LARGEST_BYTES:
            faults.append(f"{self.parameters:,} parameters, more than any model Graft can hold")
        if faults:
            raise ModelError("the model's configuration makes no sense: " + "; ".join(faults))

    def window(self, layer: int) -> int:
        """How many tokens a token of this layer sees; 0 means all."""
        return self.windows[layer % len(self.windows)] if self.windows else 0

    @property
    def parameters(self) -> int:
        """Parameters of the backbone, computed before anything is allocated; within a few norms and biases."""
        width, projections = self.hidden_size, 3 if self.gated else 2
        table = self.positions + self.position_offset if self.position_kind == "learned" else 0
        attention = 2 * width * self.head_size * (self.heads + self.key_heads)
        dense, sparse = projections * width * self.feed_forward_size, 0
        if self.experts:
            sizes = self.experts.count * self.experts.size + self.experts.shared
            sparse = projections * width * sizes + width * self.experts.count
        mixed = sum(layer not in self.dense_layers for layer in range(self.layers)) if self.experts else 0
        rows = self.vocab_size + table + self.token_types
        return rows * width + self.layers * attention + (self.layers - mixed) * dense + mixed * sparse


def _choice_faults(config: Config) -> list[str]:
    choices = (("norm", ("post", "pre")), ("norm_kind", ("layer", "rms")), ("query_key_norm", ("", "head", "all")))
    found = [
        f"{name} is {getattr(config, name)!r:.60}, expected {' or '.join(map(repr, valid))}"
        for name, valid in (*choices, ("position_kind", ("learned", "rotary", "none")))
        if getattr(config, name) not in valid
    ]
    if not all(type(window) is int and 0 <= window <= 2**31 for window in config.windows):
        found.append(f"windows are {config.windows!r:.60}, expected numbers of tokens")
    rotary = config.rotary
    values = (rotary.base, rotary.factor, rotary.low, rotary.high, rotary.trained, config.scale + 1)
    if not all(type(one) in (int, float) and 0 < one < 1e12 for one in values):
        found.append(f"{rotary} with scale {config.scale!r:.60}: expected numbers above 0")
    elif rotary.scaling == "llama3" and rotary.low >= rotary.high:
        found.append(f"{rotary}: low must be below high")
    if (experts := config.experts) and not (type(experts.normalized) is bool and 0 <= experts.balance <= 1e6):
        found.append(f"{experts!r:.200}: expected normalized true or false, and a weight from 0 for the balance")
    return found


def _group_faults(config: Config) -> list[str]:
    found = []
    if config.heads % config.key_heads:
        found.append(f"{config.heads} attention heads cannot share {config.key_heads} heads of keys and values evenly")
    if config.position_kind == "rotary" and config.head_size % 2:
        found.append(f"a head of {config.head_size} numbers cannot turn in pairs")
    if config.experts and config.experts.chosen > config.experts.count:
        found.append(f"{config.experts.chosen} experts chosen of {config.experts.count}")
    return found


def _size_faults(config: Config) -> list[str]:
    least = dict.fromkeys(("vocab_size", "hidden_size", "layers", "heads", "feed_forward_size", "positions"), 1)
    least |= dict.fromkeys(("head_size", "key_heads", "token_types", "position_offset"), 0)
    sizes = [(name, getattr(config, name), floor) for name, floor in least.items()]
    if config.experts:
        sizes += [(f"experts.{name}", getattr(config.experts, name), 1) for name in ("count", "chosen", "size")]
        sizes.append(("experts.shared", config.experts.shared, 0))
    found = []
    for name, value, floor in sizes:
        most = MOST_LAYERS if name == "layers" else 2**31
        if not isinstance(value, int) or isinstance(value, bool) or not floor <= value <= most:
            found.append(f"{name} is {value!r:.60}, expected a whole number from {floor} to {most}")
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
