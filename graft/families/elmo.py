"""ELMo (Peters et al. 2018): words by their characters, then two LSTMs in each direction.

Folders hold options.json and lm_weights.hdf5 as bilm-tf writes them. By default every sequence begins from zero. The
published model carries its states from one batch to the next; so does a `State` handed to each call. Dropout is what
options.json states as bilm-tf's training options do, on what LSTM layers read and on what the last gives; else there is
none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from graft.batch import Packed
from graft.errors import DataError, ModelError
from graft.families import Family, Published
from graft.model.attention import Memory
from graft.model.characters import ACTIVATIONS, Filter, Highway
from graft.model.config import Config
from graft.model.layers import Dropout
from graft.model.linear import Linear
from graft.model.recurrent import LSTM, State, Steps
from graft.model.transformer import Transformer
from graft.text.characters import IDS, LENGTH, character_ids
from graft.weights import Rule


@dataclass(frozen=True, kw_only=True)
class ElmoConfig(Config):
    """Sizes and choices of an ELMo. `hidden_size` is that of both directions, `feed_forward_size` the cells of one.

    Attributes:
        character_size: of a character's embedding.
        filters: width in characters and number of outputs of each part of the character CNN.
        character_activation: after the maximum over places: "relu" or "tanh".
        highways: highway layers after the CNN.
        skip: every LSTM layer but the first adds its input to its output.
        cell_clip: cells stay within so much of zero; None leaves them.
        projection_clip: outputs likewise.
    """

    character_size: int
    filters: tuple[tuple[int, int], ...]
    character_activation: str = "relu"
    highways: int = 0
    skip: bool = False
    cell_clip: float | None = None
    projection_clip: float | None = None

    def __post_init__(self) -> None:
        if faults := _faults(self):
            raise ModelError("the model's configuration makes no sense: " + "; ".join(faults))
        super().__post_init__()

    @property
    def found(self) -> int:
        """Outputs of the character CNN."""
        return sum(count for _, count in self.filters)

    @property
    def parameters(self) -> int:
        """Parameters, computed before anything is allocated; within a few biases."""
        size, found = self.hidden_size // 2, self.found
        cnn = self.vocab_size * self.character_size + sum(w * self.character_size * n for w, n in self.filters)
        lstm = 9 * size * self.feed_forward_size + 4 * self.feed_forward_size
        return cnn + 2 * self.highways * found**2 + found * size + 2 * self.layers * lstm


def _whole(value: object, least: int, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _clip(value: object) -> bool:
    return value is None or isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1e6


def _faults(config: ElmoConfig) -> list[str]:
    """What makes no sense here and Config does not know of."""
    pairs = [len(one) == 2 and _whole(one[0], 1, LENGTH) and _whole(one[1], 1, 2**16) for one in config.filters]
    size, cells = config.hidden_size, config.feed_forward_size
    checks = (
        ("character_size", _whole(config.character_size, 1, 1024), "a whole number from 1 to 1024"),
        ("highways", _whole(config.highways, 0, 16), "a whole number from 0 to 16"),
        ("filters", 1 <= len(pairs) <= LENGTH and all(pairs), f"pairs of a width up to {LENGTH} and a number"),
        ("character_activation", config.character_activation in list(ACTIVATIONS), " or ".join(ACTIVATIONS)),
        ("skip", isinstance(config.skip, bool), "true or false"),
        ("cell_clip", _clip(config.cell_clip), "a number above 0, or null"),
        ("projection_clip", _clip(config.projection_clip), "a number above 0, or null"),
        ("hidden_size", not _whole(cells, 1, 2**31) or _whole(size, 2, 2 * cells), f"2 to twice the {cells} cells"),
    )
    return [f"{name} is {getattr(config, name)!r:.60}, expected {wanted}" for name, good, wanted in checks if not good]


class BiLSTM(nn.Module):
    """One layer: an LSTM from the left over the first half of the hidden state, one from the right over the other."""

    def __init__(self, config: ElmoConfig, layer: int) -> None:
        super().__init__()
        size, clips = config.hidden_size // 2, {"cell_clip": config.cell_clip, "output_clip": config.projection_clip}
        self.forwards = LSTM(size, config.feed_forward_size, place=(layer, False), **clips)
        self.backwards = LSTM(size, config.feed_forward_size, place=(layer, True), **clips)
        self.skip, self.dropout = config.skip and layer > 0, Dropout(config.dropout)

    def forward(self, x_TD: Tensor, steps: Steps) -> Tensor:
        """(T, D) -> (T, D); dropout is before both the LSTMs and the sum."""
        x_TD = self.dropout(x_TD)
        left_TP, right_TP = x_TD.chunk(2, dim=-1)
        y_TD = torch.cat([self.forwards(left_TP, steps), self.backwards(right_TP, steps)], dim=-1)
        return x_TD + y_TD if self.skip else y_TD


class Elmo(Transformer):
    """Character CNN, highway layers and projection make the token layer; then come the LSTM layers."""

    block = BiLSTM
    drops_last = True

    def __init__(self, config: ElmoConfig) -> None:
        super().__init__(config)
        self.token_embedding = nn.Embedding(config.vocab_size - 1, config.character_size)
        self.filters = nn.ModuleList(
            Filter(width, config.character_size, count, config.character_activation) for width, count in config.filters
        )
        self.highways = nn.ModuleList(Highway(config.found) for _ in range(config.highways))
        size = config.hidden_size // 2
        self.projection = Linear(config.found, size) if config.found != size else None

    def embed(self, batch: Packed) -> Tensor:
        """The token layer, once for each direction, (T, D)."""
        x_TWE = self.token_embedding(batch.ids_T - 1)
        x = torch.cat([one(x_TWE) for one in self.filters], dim=-1)
        for highway in self.highways:
            x = highway(x)
        return torch.cat([x if self.projection is None else self.projection(x)] * 2, dim=-1)

    def _rows(self, tokens: int) -> int:
        return tokens

    def flow(self, batch: Packed, rows: int, memory: Memory | None, cache: State | None) -> Steps:
        """What both directions of all layers share."""
        return Steps.of(batch, cache)

    def check(self, batch: Packed) -> None:
        """Refuse what is no batch of words."""
        if batch.ids_T.dim() != 2 or batch.ids_T.shape[1] != LENGTH:
            found = list(batch.ids_T.shape)
            raise DataError(f"ids of shape {found}, expected {LENGTH} characters for each word: [words, {LENGTH}]")


def _cells(number: int, way: str) -> list[Rule]:
    """Of one direction, in every layer."""
    theirs, ours = f"RNN_{number}/RNN/MultiRNNCell/Cell{{n}}/LSTMCell", f"backbone.blocks.{{n}}.{way}"
    return [
        Rule(f"{theirs}/W_0", (f"{ours}.input.weight", f"{ours}.recurrent.weight"), transposed=True, axis=1),
        Rule(f"{theirs}/B", f"{ours}.input.bias"),
        Rule(f"{theirs}/W_P_0", f"{ours}.projection.weight", transposed=True),
    ]


RULES = [
    Rule("char_embed", "backbone.token_embedding.weight"),
    Rule("CNN/W_cnn_{n}", "backbone.filters.{n}.weight"),
    Rule("CNN/b_cnn_{n}", "backbone.filters.{n}.bias"),
    *(
        Rule(f"CNN_high_{{n}}/{kind}_{name}", f"backbone.highways.{{n}}.{name}.{part}", transposed=kind == "W")
        for name in ("carry", "transform")
        for kind, part in (("W", "weight"), ("b", "bias"))
    ),
    Rule("CNN_proj/W_proj", "backbone.projection.weight", transposed=True),
    Rule("CNN_proj/b_proj", "backbone.projection.bias"),
    *_cells(0, "forwards"),
    *_cells(1, "backwards"),
]


def flat(options: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Objects within objects, three deep -> one with dotted names."""
    found: dict[str, Any] = {}
    for key, value in options.items():
        deeper = isinstance(value, dict) and prefix.count(".") < 2
        found |= flat(value, f"{prefix}{key}.") if deeper else {prefix + key: value}
    return found


def nested(entries: Mapping[str, Any]) -> dict[str, Any]:
    """The way back."""
    options: dict[str, Any] = {}
    for name, value in entries.items():
        *places, last = name.split(".")
        inner = options
        for place in places:
            inner = inner.setdefault(place, {})
        inner[last] = value
    return options


class Options(Family):
    """A family whose configuration is bilm-tf's options.json."""

    def config(self, published: Published) -> Config:
        """options.json -> ElmoConfig."""
        try:
            return super().config(flat(published))
        except ModelError as error:
            raise ModelError(str(error).replace("config.json", "options.json")) from error

    def publish(self, config: Config) -> dict[str, Any]:
        """ElmoConfig -> options.json."""
        entries = {key: value for key, value in super().publish(config).items() if key != "model_type"}
        return nested({key: value for key, value in entries.items() if key != "dropout" or value})


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """Two directions; pairs as Python has them."""
    size, filters = values["hidden_size"], values["filters"]
    pairs = tuple(tuple(one) for one in filters[: LENGTH + 1]) if isinstance(filters, list) else ()  # more are refused
    return {"hidden_size": 2 * size if isinstance(size, int) else size, "filters": pairs}


def _fan(x: Tensor) -> object:
    """Fills a filter with normal numbers, smaller the more it sums."""
    return nn.init.normal_(x, std=x[0, ..., 0].numel() ** -0.5)


def uniform(most: float) -> Callable[[Tensor], object]:
    """Fills a tensor with numbers up to so much from 0, any as likely as any other."""
    return partial(nn.init.uniform_, a=-most, b=most)


CHARACTERS = {"char_cnn.n_characters": IDS, "char_cnn.max_characters_per_token": LENGTH}

FAMILY = Options(
    name="elmo",
    bare="ELMo",
    keys={
        "char_cnn.embedding.dim": "character_size",
        "char_cnn.filters": "filters",
        "char_cnn.n_highway": "highways",
        "char_cnn.activation": "character_activation",
        "lstm.projection_dim": "hidden_size",
        "lstm.dim": "feed_forward_size",
        "lstm.n_layers": "layers",
        "lstm.use_skip_connections": "skip",
        "lstm.cell_clip": "cell_clip",
        "lstm.proj_clip": "projection_clip",
        "dropout": ("dropout", "embedding_dropout"),
    },
    defaults={
        "char_cnn.n_highway": 0,
        "char_cnn.activation": "relu",
        "lstm.use_skip_connections": False,
        "lstm.cell_clip": None,
        "lstm.proj_clip": None,
        "dropout": 0.0,
    },
    supported={**CHARACTERS, "bidirectional": True},
    fixed={"vocab_size": IDS, "heads": 1, "positions": 2**31, "position_kind": "none"},
    refine=refine,
    entries=lambda config: {"lstm.projection_dim": config.hidden_size // 2, **CHARACTERS},
    rules=RULES,
    backbone=Elmo,
    config_type=ElmoConfig,
    # As bilm-tf has them: highways begin nearly closed; an LSTM's two matrices are one there (Glorot & Bengio 2010).
    fresh=lambda config: {
        "token_embedding": uniform(1.0),
        "filters.*weight": _fan if config.character_activation == "tanh" else uniform(0.05),
        r"carry\.bias": partial(nn.init.constant_, val=-2.0),
        r"(input|recurrent)\.weight": uniform((6 / (config.hidden_size + 4 * config.feed_forward_size)) ** 0.5),
        "blocks.*projection": nn.init.xavier_uniform_,
        "weight": config.found**-0.5,
    },
    file="options.json",
    words=character_ids,
)
