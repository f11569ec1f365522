"""The decoding step: one new token for each of some sequences, as fast as the processor reads the weights."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor

from graft.errors import UsageError
from graft.generate import native
from graft.grafted import Model
from graft.heads.tokens import PredictNext
from graft.int8 import Int8
from graft.model.attention import Attention
from graft.model.block import Block
from graft.model.config import Config
from graft.model.layers import FeedForward
from graft.model.linear import Linear
from graft.model.rotary import turns
from graft.model.transformer import Transformer

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")


class Slots(Protocol):
    """Keys and values in fixed slots, (layers, slots, G, M, K) each, of the model's dtype."""

    keys: Tensor
    values: Tensor


class Decoder:
    """A decoder's step in one call: what the backbone and head do, without what torch does around each operation.

    Weights are read where the model keeps them (`int8.swap` before, not after), and must not change meanwhile.
    """

    def __init__(self, model: Model, cache: Slots, *, threads: int | None = None) -> None:
        """Describe a model to the library.

        Args:
            model: one that `fits`.
            cache: whose slots it reads and writes.
            threads: to work with; torch's number where nothing is said.

        Raises:
            UsageError: the model does not fit; ask `fits` before.
        """
        if not fits(model, cache):
            raise UsageError(f"{model.folder}: this model, or this machine, decodes with the model's own forward pass")
        built = native.library()
        assert built is not None
        self._kept: list[Tensor] = []  # what pointers lead to
        self._head: Any = model.head
        threads = threads or torch.get_num_threads()
        self._model, self._cache = self._describe(model), self._places(cache)
        config, slots = model.backbone.config, cache.keys.shape[1]
        whole = type(model.head) is PredictNext
        self._hidden_BD = torch.empty(slots, config.hidden_size)
        self._logits_BV = torch.empty(slots, self._model.head.rows) if whole else None
        self._slot_B = torch.arange(slots)
        described = ctypes.addressof(self._model)
        self._work = torch.empty(built.graft_work(described, slots, self._cache.places, threads))
        self._step, self._team = built.graft_step, built.graft_open(described, ctypes.addressof(self._cache), threads)
        weakref.finalize(self, _close, built, self._team, [self._model, self._kept, self._work])

    def __call__(self, ids_B: Tensor, position_B: Tensor, slot_B: Tensor | None = None) -> Tensor:
        """Read one token of each sequence, and write its keys and values into the cache.

        Args:
            ids_B: the tokens.
            position_B: how many tokens each sequence's slot holds already: the place of the new one.
            slot_B: the slot of each sequence, no two the same; without it, they lie in order from the first.

        Returns:
            Logits of the next token, (B, V), float32; the next call overwrites them.

        Raises:
            UsageError: a token, place or slot that is not there; nothing was written.
        """
        count, slots = len(ids_B), len(self._slot_B)
        if not len(position_B) == count <= slots or (slot_B is not None and len(slot_B) != count):
            raise UsageError(f"{count} tokens with {len(position_B)} places for a cache of {slots} slots")
        slot_B = self._slot_B if slot_B is None else slot_B
        given = [one.to("cpu", torch.int64).contiguous() for one in (ids_B, position_B, slot_B)]
        results = [None if one is None else one.data_ptr() for one in (self._hidden_BD, self._logits_BV, self._work)]
        step = native.Step(count, *(one.data_ptr() for one in given), *results)
        if wrong := self._step(self._team, ctypes.addressof(step)):
            token, place, slot = (int(one[wrong - 1]) for one in given)
            raise UsageError(
                f"row {wrong - 1}: place {place} of a slot of {self._cache.places}, slot {slot} of {slots}, "
                f"token {token}, the model knows {self._model.tokens.rows}"
            )
        if self._logits_BV is not None:
            return self._logits_BV[:count]
        return self._head(self._hidden_BD[:count], None)  # type: ignore[no-any-return]

    def _places(self, cache: Slots) -> native.Cache:
        keys = cache.keys
        self._kept += [keys, cache.values]
        sizes = keys.shape[1], keys.shape[3], *keys.stride()[:4]
        return native.Cache(keys.data_ptr(), cache.values.data_ptr(), *sizes, KINDS[keys.dtype])

    def _describe(self, model: Model) -> native.Model:
        backbone, config = model.backbone, model.backbone.config
        layers = (native.Layer * config.layers)(
            *(self._layer(block, config, n) for n, block in enumerate(backbone.blocks))
        )
        rotary = turns(config.rotary, config.head_size) if config.position_kind == "rotary" else None
        types = None if backbone.type_embedding is None else backbone.type_embedding.weight[0]
        head = model.head if type(model.head) is PredictNext else None
        learned = backbone.position_embedding
        return native.Model(
            config.layers,
            config.hidden_size,
            config.heads,
            config.key_heads,
            config.head_size,
            config.feed_forward_size,
            config.norm == "pre",
            config.norm_kind == "rms",
            ACTIVATIONS.index(config.activation),
            config.query_key_norm == "all",
            config.norm_eps,
            config.scale,
            1.0 if head is None else head.scale,
            layers,
            self._matrix(backbone.token_embedding),
            native.Matrix() if learned is None else self._matrix(learned),
            config.position_offset,
            self._vector(types),
            self._vector(rotary),
            self._norm(backbone.embedding_norm),
            self._norm(backbone.final_norm),
            native.Matrix() if head is None else self._matrix(head.output),
        )

    def _layer(self, block: Any, config: Config, number: int) -> native.Layer:
        attention, feed = block.attention, block.feed_forward
        parts = (attention.query, attention.key, attention.value, attention.output, feed.gate, feed.up, feed.down)
        norms = (block.attention_norm, block.feed_forward_norm)
        own = (attention.query_norm, attention.key_norm) if attention.normalized else (None, None)
        return native.Layer(
            *(native.Matrix() if part is None else self._matrix(part) for part in parts),
            *(self._norm(norm) for norm in (*norms, *own)),
            config.window(number),
        )

    def _matrix(self, layer: Any) -> native.Matrix:
        weight = layer.weight.detach()
        weight = weight if weight.is_contiguous() else weight.contiguous()
        self._kept.append(weight)
        scale, bias = getattr(layer, "scale", None), getattr(layer, "bias", None)
        return native.Matrix(
            weight.data_ptr(), self._vector(scale), self._vector(bias), *weight.shape, KINDS[weight.dtype]
        )

    def _norm(self, norm: Any) -> native.Norm:
        if norm is None:
            return native.Norm()
        return native.Norm(self._vector(norm.weight), self._vector(getattr(norm, "bias", None)))

    def _vector(self, values: Tensor | None) -> int | None:
        if values is None:
            return None
        wide = values.detach().float().contiguous()
        self._kept.append(wide)
        return wide.data_ptr()


def _close(built: ctypes.CDLL, team: int, kept: object) -> None:
    """Let the threads go; what they read is `kept` until then."""
    built.graft_close(team)


def decoder(model: Model, cache: Slots) -> Decoder | None:
    """A model's decoding step, where there is one that is faster than the backbone's own forward pass."""
    return Decoder(model, cache) if fits(model, cache) else None


def fits(model: Model, cache: Slots) -> bool:
    """Whether `Decoder` can decode with this model on this machine; otherwise the backbone's own forward pass does."""
    backbone, head, keys = model.backbone, model.head, cache.keys
    config = backbone.config
    if model.device.type != "cpu" or not {model.dtype, keys.dtype} <= {torch.float32, torch.bfloat16}:
        return False
    if keys.device.type != "cpu" or keys.stride(-1) != 1 or keys.stride() != cache.values.stride():
        return False
    if head is None or head.kind != "next" or backbone.decoder is not None or config.experts is not None:
        return False
    ordinary = type(backbone).embed is Transformer.embed and type(backbone).flow is Transformer.flow
    known = config.causal and config.position_kind in ("learned", "rotary") and config.activation in ACTIVATIONS
    return ordinary and known and all(_plain(backbone)) and native.library() is not None


def _plain(backbone: Transformer) -> Iterator[bool]:
    """Whether each block is the shared one, made of layers whose weights say all there is to say."""
    for block in backbone.blocks:
        yield type(block) is Block and type(block.attention) is Attention and type(block.feed_forward) is FeedForward
        yield all(type(one) in (Linear, Int8) for one in block.modules() if hasattr(one, "in_features"))
