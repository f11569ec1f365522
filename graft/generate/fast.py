"""The decoding step: one new token for each of some sequences, as fast as the processor reads the weights."""

from __future__ import annotations

import ctypes
import weakref
from collections.abc import Iterator
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from graft.batch import Packed
from graft.errors import UsageError
from graft.families.t5 import CrossAttention, DecoderBlock, Stack
from graft.generate import native
from graft.grafted import Model
from graft.heads.tokens import PredictNext
from graft.int8 import Int8
from graft.model.attention import Attention
from graft.model.block import Block
from graft.model.config import Config
from graft.model.layers import FeedForward
from graft.model.layout import Look
from graft.model.linear import Linear
from graft.model.mixture import Mixture
from graft.model.rotary import turns
from graft.model.transformer import Transformer

KINDS = {torch.float32: 0, torch.bfloat16: 1, torch.int8: 2}
ACTIVATIONS = ("gelu", "gelu_tanh", "relu", "silu")


class Slots(Protocol):
    """Keys and values in fixed slots, (layers, slots, G, M, K) each, of the model's dtype."""

    keys: Tensor
    values: Tensor


class Decoder:
    """A decoder's step in one call: what backbone (or its decoder) and head do, without what torch does around each.

    Weights are read where the model keeps them (`int8.swap` before, not after), and must not change meanwhile.
    """

    def __init__(self, model: Model, cache: Slots, memory: Slots | None = None, *, threads: int | None = None) -> None:
        """Describe a model to the library.

        Args:
            model: one that `fits`.
            cache: whose slots it reads and writes.
            memory: keys and values of what an encoder read, where the model has one; it only reads them.
            threads: to work with; torch's number where nothing is said.

        Raises:
            UsageError: the model does not fit; ask `fits` before.
        """
        if not fits(model, cache, memory):
            raise UsageError(f"{model.folder}: this model, or this machine, decodes with the model's own forward pass")
        built = native.library()
        assert built is not None
        self._kept: list[Any] = []  # what pointers lead to
        self._head: Any = model.head
        threads = threads or torch.get_num_threads()
        self._cache, self._memory = self._places(cache), self._places(memory)
        self._model = self._describe(model)
        config, slots = _stack(model).config, cache.keys.shape[1]
        whole = type(model.head) is PredictNext
        self._hidden_BD = torch.empty(slots, config.hidden_size)
        self._logits_BV = torch.empty(slots, self._model.head.rows) if whole else None
        self._slot_B = torch.arange(slots)
        described = ctypes.addressof(self._model)
        longest = max(self._cache.places, self._memory.places)
        self._work = torch.empty(built.graft_work(described, slots, longest, threads))
        where = (ctypes.addressof(one) for one in (self._cache, self._memory))
        self._step, self._team = built.graft_step, built.graft_open(described, *where, threads)
        weakref.finalize(self, _close, built, self._team, [self._model, self._kept, self._work])

    def __call__(
        self,
        ids_B: Tensor,
        position_B: Tensor,
        slot_B: Tensor | None = None,
        source_B: Tensor | None = None,
        length_B: Tensor | None = None,
    ) -> Tensor:
        """Read one token of each sequence, and write its keys and values into the cache.

        Args:
            ids_B: the tokens.
            position_B: how many tokens each sequence's slot holds already: the place of the new one.
            slot_B: the slot of each sequence, no two the same; without it, they lie in order from the first.
            source_B: the memory's slot each looks at, where there is a memory; without it, that of the same number.
            length_B: how many places of that are filled; must be given where there is a memory.

        Returns:
            Logits of the next token, (B, V), float32; the next call overwrites them.

        Raises:
            UsageError: a token, place or slot that is not there; nothing was written.
        """
        count, slot_B = len(ids_B), self._slot_B[: len(ids_B)] if slot_B is None else slot_B
        given = [ids_B, position_B, slot_B]
        if length_B is not None:
            given += [slot_B if source_B is None else source_B, length_B]
        self._check(given)
        given = [one.to("cpu", torch.int64).contiguous() for one in given]
        pointers = [one.data_ptr() for one in given] + [None] * (5 - len(given))
        results = [None if one is None else one.data_ptr() for one in (self._hidden_BD, self._logits_BV, self._work)]
        step = native.Step(count, *pointers, *results)
        if wrong := self._step(self._team, ctypes.addressof(step)):
            raise UsageError(self._wrong(wrong - 1, [int(one[wrong - 1]) for one in given]))
        if self._logits_BV is not None:
            return self._logits_BV[:count]
        return self._head(self._hidden_BD[:count], None)  # type: ignore[no-any-return]

    def _check(self, given: list[Tensor]) -> None:
        """Refuse numbers that do not go together."""
        lengths, slots = [len(one) for one in given], len(self._slot_B)
        if set(lengths) != {lengths[0]} or lengths[0] > slots:
            raise UsageError(f"{lengths[0]} tokens with {lengths[1]} places for a cache of {slots} slots: {lengths}")
        if (len(given) > 3) != (self._memory.slots > 0):
            has = f"has an encoder's memory of {self._memory.slots} slots" if self._memory.slots else "has no memory"
            raise UsageError(f"the model {has}; length_B says how many places of it are filled, if it has one")

    def _wrong(self, row: int, given: list[int]) -> str:
        token, place, slot, *beside = given
        said = f"token {token}, the model knows {self._model.tokens.rows}"
        if beside:
            source, length = beside
            said += f", {length} of {self._memory.places} places of slot {source} of {self._memory.slots} of the memory"
        return f"row {row}: place {place} of a slot of {self._cache.places}, slot {slot} of {len(self._slot_B)}, {said}"

    def _places(self, cache: Slots | None) -> native.Cache:
        if cache is None:
            return native.Cache()
        keys = cache.keys
        self._kept += [keys, cache.values]
        sizes = keys.shape[1], keys.shape[3], *keys.stride()[:4]
        return native.Cache(keys.data_ptr(), cache.values.data_ptr(), *sizes, KINDS[keys.dtype])

    def _describe(self, model: Model) -> native.Model:
        backbone = _stack(model)
        config = backbone.config
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
            *self._mixture(config),
            config.norm == "pre",
            config.norm_kind == "rms",
            ACTIVATIONS.index(config.activation),
            config.query_key_norm == "all",
            bool(config.experts and config.experts.normalized),
            config.norm_eps,
            config.scale,
            1.0 if head is None else head.scale,
            layers,
            self._matrix(backbone.token_embedding),
            self._matrix(learned),
            config.position_offset,
            self._vector(types),
            self._vector(rotary),
            self._vector(_distances(backbone, self._cache.places)),
            self._norm(backbone.embedding_norm),
            self._norm(backbone.final_norm),
            self._matrix(None if head is None else head.output),
        )

    def _layer(self, block: Any, config: Config, number: int) -> native.Layer:
        attention, feed = block.attention, block.feed_forward
        parts = (attention.query, attention.key, attention.value, attention.output)
        norms = (block.attention_norm, block.feed_forward_norm)
        own = (attention.query_norm, attention.key_norm) if attention.normalized else (None, None)
        looks = getattr(block, "memory", None)
        beside = (None, None) if looks is None else (looks.query, looks.output)
        return native.Layer(
            *map(self._matrix, parts),
            *self._feed_forward(feed),
            *map(self._norm, (*norms, *own)),
            *map(self._matrix, beside),
            self._norm(None if looks is None else block.memory_norm),
            config.window(number),
        )

    def _mixture(self, config: Config) -> tuple[int, ...]:
        """The widest feed-forward layer, how many a token goes through, how many experts there are, and are chosen."""
        experts = config.experts
        if experts is None:
            return config.feed_forward_size, 1, 0, 0
        widest = max(config.feed_forward_size if config.dense_layers else 0, experts.size, experts.shared)
        return widest, experts.chosen + (experts.shared > 0), experts.count, experts.chosen

    def _feed_forward(self, feed: Any) -> tuple[Any, ...]:
        """A dense layer, or experts (those that all go through last), their router and the gate of the latter."""
        if type(feed) is FeedForward:
            return self._dense(feed), None, native.Matrix(), native.Matrix()
        every = [*feed.experts, *([] if feed.shared is None else [feed.shared])]
        experts = (native.Dense * len(every))(*map(self._dense, every))
        self._kept.append(experts)
        return native.Dense(), experts, self._matrix(feed.router), self._matrix(feed.shared_gate)

    def _dense(self, feed: FeedForward) -> native.Dense:
        return native.Dense(*map(self._matrix, (feed.gate, feed.up, feed.down)))

    def _matrix(self, layer: Any) -> native.Matrix:
        if layer is None:
            return native.Matrix()
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


def decoder(model: Model, cache: Slots, memory: Slots | None = None) -> Decoder | None:
    """A model's decoding step, where there is one that is faster than the backbone's own forward pass."""
    return Decoder(model, cache, memory) if fits(model, cache, memory) else None


def fits(model: Model, cache: Slots, memory: Slots | None = None) -> bool:
    """Whether `Decoder` can decode with this model on this machine; otherwise the backbone's own forward pass does."""
    stack, head = _stack(model), model.head
    config = stack.config
    if model.device.type != "cpu" or not {model.dtype, cache.keys.dtype} <= {torch.float32, torch.bfloat16}:
        return False
    if not all(_reachable(one) for one in (cache, memory) if one is not None):
        return False
    two = model.backbone.decoder is not None
    if head is None or head.kind != "next" or two is (memory is None):
        return False
    ordinary = type(stack).embed is Transformer.embed and type(stack).flow in (Transformer.flow, Stack.flow)
    known = config.causal and config.activation in ACTIVATIONS
    return ordinary and known and all(_plain(stack)) and native.library() is not None


def _stack(model: Model) -> Transformer:
    """What writes: the backbone, or its decoder."""
    return model.backbone if model.backbone.decoder is None else model.backbone.decoder


def _reachable(cache: Slots) -> bool:
    keys, values = cache.keys, cache.values
    return keys.device.type == "cpu" and keys.stride(-1) == 1 and keys.stride() == values.stride()


def _distances(stack: Transformer, places: int) -> Tensor | None:
    """What a stack adds to the scores by distance, as the last of so many places sees it: (H, M), and a vector's rest.

    A query at an earlier place sees the last columns of this.
    """
    position = torch.tensor([places - 1])
    bias = stack.flow(Packed(position, torch.ones_like(position), start_B=position), 1, None, None).bias
    if bias is None:
        return None
    one = slice(0, 1)
    added_HM = bias.slots(Look(one, one, places, position[None], position[None]))[0, :, 0]
    return F.pad(added_HM.detach().flatten(), (0, 16))


def _plain(backbone: Transformer) -> Iterator[bool]:
    """Whether each block is the shared one, made of layers whose weights say all there is to say."""
    for block in backbone.blocks:
        yield type(block) in (Block, DecoderBlock)
        yield type(block.attention) is Attention and type(block.feed_forward) in (FeedForward, Mixture)
        looks = getattr(block, "memory", None)
        yield looks is None or (type(looks) is CrossAttention and not looks.normalized)
        yield all(type(one) in (Linear, Int8) for one in block.modules() if hasattr(one, "in_features"))
