"""T5 1.0, 1.1 and Flan-T5 (Raffel et al. 2020): an encoder and a decoder that share the token embedding.

Positions are relative: a number for each head and bucket of distances is added to the attention scores, the same in
every layer of a stack. Scores are not scaled.
"""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from graft.batch import Packed
from graft.errors import DataError, ModelError
from graft.families import Family, Grafting, Options, Published, activation, classifier, named, rate, span, tag
from graft.model.attention import Attention, Cache, Flow, Memory
from graft.model.block import Block
from graft.model.config import MOST_LAYERS, Config
from graft.model.layers import norm
from graft.model.layout import Blocks, Look, round_up
from graft.model.transformer import ROWS, Transformer
from graft.text import Frame
from graft.weights import Rule, linear

DECODED = ("classify", "regress", "choose", "next", "span")
"""The heads that read the decoder's hidden states."""


@dataclass(frozen=True, kw_only=True)
class Sizes(Config):
    """An encoder and a decoder; what both have is said of the encoder.

    Attributes:
        decoder_layers: blocks of the decoder; 0 means there is none.
        buckets: of distances, in all.
        furthest: all distances from here on share a bucket.
        start_token: what the decoder reads first.
    """

    decoder_layers: int
    buckets: int
    furthest: int
    start_token: int

    def __post_init__(self) -> None:
        bounds = {
            "decoder_layers": (0, MOST_LAYERS),
            "buckets": (4, 2**16),
            "furthest": (self.buckets + 1, 2**31),
            "start_token": (0, self.vocab_size - 1),
        }
        for name, (least, most) in bounds.items():
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
                raise ModelError(f"{name} is {value!r:.60}, expected a whole number from {least} to {most}")
        super().__post_init__()

    @property
    def parameters(self) -> int:
        """Parameters of both stacks; a block of the decoder attends twice."""
        attention = 2 * self.hidden_size * self.head_size * (self.heads + self.key_heads)
        dense = (3 if self.gated else 2) * self.hidden_size * self.feed_forward_size
        return super().parameters + self.decoder_layers * (2 * attention + dense)


class Relative:
    """What one stack adds to its scores in one forward pass, worked out once for all layers (section 2.1)."""

    def __init__(self, table: nn.Embedding, sizes: Sizes) -> None:
        self.table, self.sizes = table, sizes
        self._made: dict[tuple[int, int] | Look, Tensor] = {}

    def block(self, q_BLHK: Tensor, blocks: Blocks, number: int) -> Tensor:
        """For one block of sequences: (1, H, L, M)."""
        queries, keys = shape = q_BLHK.shape[1], blocks.keys.shapes[number].longest
        if shape not in self._made:
            row = self._at(torch.arange(1 - queries, keys, device=q_BLHK.device))
            self._made[shape] = row.contiguous().unfold(1, keys, 1).flip(1)[None]
        return self._made[shape]

    def slots(self, look: Look) -> Tensor:
        """For queries against the slots of a cache: (B, H, L, M)."""
        if look not in self._made:
            place_M = torch.arange(look.length, device=look.position_BL.device)
            self._made[look] = self._at(place_M - look.position_BL[..., None]).transpose(0, 1)
        return self._made[look]

    def _at(self, distance: Tensor) -> Tensor:
        """What is added at these distances, key minus query: (H, ...)."""
        return self.table(bucket(distance, self.sizes)).movedim(-1, 0)  # type: ignore[no-any-return]


def bucket(distance: Tensor, sizes: Sizes) -> Tensor:
    """The bucket of each distance: one each for near ones, then ever wider, half of them for each direction."""
    count = sizes.buckets if sizes.causal else sizes.buckets // 2
    away = -distance.clamp(max=0) if sizes.causal else distance.abs()
    near = count // 2
    share = torch.log(away.clamp(min=1).float() / near) / math.log(sizes.furthest / near)
    far = (near + (share * (count - near)).long()).clamp(max=count - 1)
    return torch.where(away < near, away, far) + (0 if sizes.causal else count * (distance > 0))


class Stack(Transformer):
    """Either stack: dropout after the last norm, and a table of relative positions."""

    config: Sizes
    drops_last = True

    def __init__(self, config: Sizes) -> None:
        super().__init__(config)
        self.relative_embedding = nn.Embedding(config.buckets, config.heads)

    def flow(self, batch: Packed, rows: int, memory: Memory | None, cache: Cache | None) -> Flow:
        """What all blocks share."""
        bias = Relative(self.relative_embedding, self.config)
        return dataclasses.replace(super().flow(batch, rows, memory, cache), bias=bias)


class CrossAttention(Attention):
    """Every token looks at all of the encoder's tokens."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__(dataclasses.replace(config, causal=False), layer)

    def forward(self, x_TD: Tensor, flow: Flow) -> Tensor:
        """(T, D) -> (T, D)."""
        memory, layout = flow.memory, flow.memory_layout
        assert memory is not None
        assert layout is not None
        if self.layer not in memory.kept:
            k, v = self.remembered(memory.hidden_TD)
            memory.kept[self.layer] = (k, v) if flow.cache is None else (memory.slots(k), memory.slots(v))
        return self.mix(self.queries(x_TD), *memory.kept[self.layer], layout)

    def remembered(self, hidden_TD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values of what the encoder made, (T, H, K) each."""
        return self.keys(hidden_TD), self.value(hidden_TD).unflatten(-1, (-1, self.head_size))


class DecoderBlock(Block):
    """A block that looks at the encoder between attention and feed-forward."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__(config, layer)
        self.memory, self.memory_norm = CrossAttention(config, layer), norm(config)

    def look(self, x_TD: Tensor, flow: Flow) -> Tensor:
        """At the encoder."""
        return self._add(x_TD, self.memory_norm, lambda y_TD: self.memory(y_TD, flow))


class Decoder(Stack):
    """The decoder; it has no token embedding of its own."""

    block = DecoderBlock

    def __init__(self, config: Sizes, embedding: nn.Embedding) -> None:
        super().__init__(config)
        del self.token_embedding
        self.__dict__["token_embedding"] = embedding  # seen, but neither counted nor saved twice


class T5(Stack):
    """The encoder, with the decoder as a part."""

    def __init__(self, config: Sizes) -> None:
        super().__init__(config)
        if config.decoder_layers:
            own = dataclasses.replace(config, layers=config.decoder_layers, causal=True)
            self.decoder = Decoder(own, self.token_embedding)

    def remember(self, batch: Packed) -> Memory:
        """Encode a batch, for the decoder to look at."""
        hidden_TD = self(batch)
        spare = round_up(len(hidden_TD), ROWS) - len(hidden_TD) if hidden_TD.device.type == "cpu" else 0
        return Memory(batch, F.pad(hidden_TD, (0, 0, 0, spare)))

    def read(self, batch: Packed, kind: str = "", decoder: Packed | None = None) -> Tensor:
        """The decoder's hidden states where it is given sequences; classifiers let it read the input once more."""
        if self.decoder is None or (decoder is None and kind not in DECODED):
            return super().read(batch, kind, decoder)
        if decoder is None and kind == "next":
            raise DataError(
                "the decoder has nothing to read; give a sequence that begins with its start token for each"
            )
        return self.decoder(self.shifted(batch) if decoder is None else decoder, memory=self.remember(batch))  # type: ignore[no-any-return]

    def shifted(self, batch: Packed) -> Packed:
        """The same sequences one token later, the start token first and the last one gone."""
        ids_T = batch.ids_T.roll(1).index_fill(0, batch.first_B, self.config.start_token)
        later = Packed(ids_T, batch.lengths_B)
        later.__dict__["lengths"] = batch.lengths
        return later


KEYS: dict[str, str | tuple[str, ...]] = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "num_layers": "layers",
    "num_decoder_layers": "decoder_layers",
    "num_heads": "heads",
    "d_kv": "head_size",
    "d_ff": "feed_forward_size",
    "n_positions": "positions",
    "relative_attention_num_buckets": "buckets",
    "relative_attention_max_distance": "furthest",
    "decoder_start_token_id": "start_token",
    "feed_forward_proj": ("gated", "activation"),
    "layer_norm_epsilon": "norm_eps",
    "dropout_rate": ("dropout", "embedding_dropout", "attention_dropout", "activation_dropout"),
}
DEFAULTS: dict[str, Any] = {
    "num_decoder_layers": None,
    "n_positions": 512,
    "relative_attention_num_buckets": 32,
    "relative_attention_max_distance": 128,
    "decoder_start_token_id": 0,
    "feed_forward_proj": "relu",
    "layer_norm_epsilon": 1e-6,
    "dropout_rate": 0.1,
}
FIXED = {"position_kind": "none", "norm": "pre", "norm_kind": "rms", "scale": 1.0, "biases": ()}


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """The decoder's layers, as many as the encoder's where nothing is said, and "gated-gelu" taken apart."""
    said = str(values["activation"])
    name, alone = said.removeprefix("gated-"), named(published).endswith(("EncoderModel", "ForTokenClassification"))
    layers = values["layers"] if values["decoder_layers"] is None else values["decoder_layers"]
    return {
        "decoder_layers": 0 if alone else layers,
        "gated": name != said,
        "activation": "gelu_tanh" if said == "gated-gelu" else activation(name),
    }


def entries(config: Config) -> dict[str, Any]:
    """The way back."""
    assert isinstance(config, Sizes)
    name = {"gelu_tanh": "gelu" if config.gated else "gelu_new"}.get(config.activation, config.activation)
    return {
        "feed_forward_proj": f"gated-{name}" if config.gated else name,
        "num_decoder_layers": config.decoder_layers or config.layers,
        "is_encoder_decoder": bool(config.decoder_layers),
    }


_LINEARS = (("q", "query"), ("k", "key"), ("v", "value"), ("o", "output"))
_DENSE = (("wi", "up"), ("wi_0", "gate"), ("wi_1", "up"), ("wo", "down"))


def _stack(theirs: str, ours: str, *looks: tuple[str, str]) -> list[Rule]:
    """The rules of one stack, whose blocks number what they do: attention of each kind, then feed-forward."""
    layer, block, last = f"{theirs}.block.{{n}}.layer", f"{ours}.blocks.{{n}}", len(looks)
    steps = [(f"{n}.{part}.{one}", f"{own}.{name}") for n, (part, own) in enumerate(looks) for one, name in _LINEARS]
    steps += [(f"{last}.DenseReluDense.{one}", f"feed_forward.{name}") for one, name in _DENSE]
    steps += [(f"{n}.layer_norm", f"{own}_norm") for n, (_, own) in enumerate((*looks, ("", "feed_forward")))]
    gate = {f"{last}.DenseReluDense.wi_1": f"{block}.feed_forward.gate.weight"}
    return [
        *(Rule(f"{layer}.{a}.weight", f"{block}.{b}.weight", beside=gate.get(a, "")) for a, b in steps),
        Rule(f"{theirs}.embed_tokens.weight", "backbone.token_embedding.weight", optional=True),
        Rule(
            f"{theirs}.block.0.layer.0.SelfAttention.relative_attention_bias.weight",
            f"{ours}.relative_embedding.weight",
        ),
        Rule(f"{theirs}.block.0.layer.1.EncDecAttention.relative_attention_bias.weight", None),
        *linear(f"{theirs}.final_layer_norm", f"{ours}.final_norm", bias=False),
    ]


RULES = [
    *_stack("encoder", "backbone", ("SelfAttention", "attention")),
    *_stack("decoder", "backbone.decoder", ("SelfAttention", "attention"), ("EncDecAttention", "memory")),
    Rule("shared.weight", "backbone.token_embedding.weight"),
]


def next_options(published: Published) -> dict[str, Any]:
    """T5 1.0 scales hidden states, 1.1 does not; whether the matrix is the token embedding, the weights tell."""
    scaled = published.get("scale_decoder_outputs", published.get("tie_word_embeddings") is not False)
    return {"scale": published["d_model"] ** -0.5 if scaled else 1.0}


def dropout(published: Published) -> float:
    """Around the layers of classifiers."""
    return rate(published, "classifier_dropout", 0.0)


def classifier_options(published: Published) -> dict[str, Any]:
    """The decoder's last token through a tanh layer, dropout before and after it, then one linear layer."""
    return {"pool": "last", "dense": "tanh", "twice": True, "dropout": dropout(published)}


def heads(name: str, options: Options) -> dict[str, Grafting]:
    """The heads such models are published with, by the beginning of their class names."""
    return {
        f"{name}ForConditionalGeneration": Grafting(
            kind="next",
            rules=linear("lm_head", "head.output", bias=False, optional=True),
            options=options,
            prefix="",
            publish=lambda known: {"tie_word_embeddings": known["tied"], "scale_decoder_outputs": "scale" in known},
        ),
        f"{name}ForSequenceClassification": classifier(
            classifier_options,
            *linear("classification_head.dense", "head.dense"),
            *linear("classification_head.out_proj", "head.output"),
        ),
        f"{name}ForTokenClassification": tag("classifier", dropout),
        f"{name}ForQuestionAnswering": span(prefix=""),
    }


FAMILY = Family(
    name="t5",
    bare="T5Model",
    encoder="T5EncoderModel",
    keys=KEYS,
    defaults=DEFAULTS,
    supported={"is_decoder": False},
    fixed=FIXED,
    refine=refine,
    entries=entries,
    rules=RULES,
    heads=heads("T5", next_options),
    frame=Frame(between=("</s>",), end=("</s>",)),
    prefix="transformer.",
    backbone=T5,
    config_type=Sizes,
    # As Mesh TensorFlow has them: queries make up for scores without a scale. initializer_factor is taken for 1.
    fresh=lambda config: {
        "token_embedding|^(next|tag).*weight": 1.0,
        "query": (config.hidden_size * config.head_size) ** -0.5,
        r"(attention|memory)\.output": (config.heads * config.head_size) ** -0.5,
        "down": config.feed_forward_size**-0.5,
        "weight": config.hidden_size**-0.5,
    },
)
