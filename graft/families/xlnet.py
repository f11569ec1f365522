"""XLNet (Yang et al. 2019): an encoder whose attention knows distances and segments of tokens, not their positions.

It learns to predict tokens in any order: a second stream of states, which know a token's position and not its content,
looks at the first (section 2.3). Without an order, attention sees everything.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from graft.batch import Packed, pack
from graft.errors import DataError, ModelError
from graft.families import Family, Grafting, Published, classifier, only, publish_tied, rate, span, tag, tied
from graft.model.attention import Attention, Cache, Flow, Memory
from graft.model.block import Block
from graft.model.config import UNLIMITED, Config
from graft.model.layout import HIDDEN, Blocks, Layout, Look
from graft.model.linear import Linear
from graft.model.transformer import Transformer
from graft.text import Frame
from graft.weights import Rule, linear

ALONE = "XLNet looks both ways: it has no cache of earlier tokens, and looks at no other model's states"


@dataclass(frozen=True, kw_only=True)
class Relations(Flow):
    """A flow that also says what two tokens are to one another; lists have one (B, 1, L, M) for each block.

    Attributes:
        encoding_RD: sinusoids of the distances from a key to a query, from R / 2 down to 1 - R / 2.
        apart: whether the two lie in different segments.
        unseen: what queries must not see, where that is anything.
        distance: from key to query; None where queries and keys are the same tokens.
        seen_TD: the states that queries look at; None where those are their own.
    """

    encoding_RD: Tensor
    apart: list[Tensor]
    unseen: list[Tensor] | None = None
    distance: list[Tensor] | None = None
    seen_TD: Tensor | None = None


class Relative:
    """What distances and segments add to the scores of a layer (Dai et al. 2019, section 3.3; Yang et al., 2.5)."""

    def __init__(self, attention: RelativeAttention, flow: Relations) -> None:
        self.attention, self.flow = attention, flow
        position_RHK = attention.position(flow.encoding_RD).unflatten(-1, (-1, attention.head_size))
        self.position_RHK = position_RHK * attention.scale

    def block(self, q_BLHK: Tensor, blocks: Blocks, number: int) -> Tensor:
        """(q + b) r' of the distances, and of the segments, (B, H, L, M); the queries come with the content's b."""
        own, flow = self.attention, self.flow
        by_distance = self._distances(q_BLHK + (own.position_bias - own.content_bias), blocks, number)
        # A softmax does not see what all scores of a query have in common: how two segments differ is enough.
        apart_HK = (own.segments[1] - own.segments[0]) * own.scale
        apart_BHL = torch.einsum("blhk,hk->bhl", q_BLHK + (own.segment_bias - own.content_bias), apart_HK)
        added = torch.addcmul(by_distance, apart_BHL[..., None], flow.apart[number].to(q_BLHK.dtype))
        return added if flow.unseen is None else added.masked_fill(flow.unseen[number], HIDDEN)

    def _distances(self, q_BLHK: Tensor, blocks: Blocks, number: int) -> Tensor:
        middle, length = len(self.position_RHK) // 2, blocks.keys.shapes[number].longest
        position_HKR = self.position_RHK[middle - length : middle + length].permute(1, 2, 0)
        every_HBLR = (q_BLHK.permute(2, 0, 1, 3).flatten(1, 2) @ position_HKR).unflatten(1, q_BLHK.shape[:2])
        if self.flow.distance is not None:  # that of filling may be any
            places = (length - self.flow.distance[number]).clamp(0, 2 * length - 1)
            return torch.take_along_dim(every_HBLR.transpose(0, 1), places, -1)
        # Row i wants the distances from i down to i - L + 1: read in rows one shorter, they lie below one another.
        every_HBX = every_HBLR.flatten(2)[..., length:]
        return every_HBX.unflatten(-1, (length, 2 * length - 1))[..., :length].transpose(0, 1)  # type: ignore[no-any-return]

    def slots(self, look: Look) -> Tensor:
        """There are none."""
        raise ModelError(ALONE)


class RelativeAttention(Attention):
    """Attention whose scores are of content, distance and segment, each with a bias of its own on the queries."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__(config, layer)
        self.position = Linear(config.hidden_size, config.heads * config.head_size, bias=False)
        self.content_bias, self.position_bias, self.segment_bias, self.segments = (
            nn.Parameter(torch.zeros(*rows, config.heads, config.head_size)) for rows in ((), (), (), (2,))
        )

    def forward(self, x_TD: Tensor, flow: Flow) -> Tensor:
        """(T, D) -> (T, D); where the flow says what is seen, x has the queries alone."""
        assert isinstance(flow, Relations)
        seen_SD = x_TD if flow.seen_TD is None else flow.seen_TD
        v_SHK = self.value(seen_SD).unflatten(-1, (-1, self.head_size))
        q_THK = self.queries(x_TD) + self.content_bias
        return self.mix(q_THK, self.keys(seen_SD), v_SHK, flow.layout, Relative(self, flow))


class RelativeBlock(Block):
    """A block with relative attention."""

    def __init__(self, config: Config, layer: int) -> None:
        super().__init__(config, layer)
        self.attention = RelativeAttention(config, layer)


class XLNet(Transformer):
    """A Transformer without positions of its own, and with a second stream for tokens to be predicted."""

    block = RelativeBlock
    drops_last = True

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.type_embedding = None  # attention compares types
        self.mask_embedding = nn.Parameter(torch.zeros(1, 1, config.hidden_size))

    def flow(self, batch: Packed, rows: int, memory: Memory | None, cache: Cache | None) -> Relations:
        """Distances and segments, the same for all layers."""
        if memory is not None or cache is not None:
            raise ModelError(ALONE)
        layout, types_T = Layout(batch, rows), _types(batch)
        apart = _compare(torch.ne, layout, types_T, types_T)
        return Relations(layout=layout, encoding_RD=self._encoding(layout), apart=apart)

    def _encoding(self, layout: Layout) -> Tensor:
        """Sinusoids of distances; dropout, while training, is one draw for all sequences, as in Transformer-XL."""
        like, size = self.token_embedding.weight, self.config.hidden_size
        most = max(block.longest for block in layout.blocks.keys.shapes)
        distance_R = torch.arange(most, -most, -1, device=like.device, dtype=torch.float32)
        angle_RD = distance_R[:, None] / 10000.0 ** (torch.arange(0, size, 2, device=like.device) / size)
        encoding_RD = torch.cat((angle_RD.sin(), angle_RD.cos()), -1)[:, :size].to(like.dtype)
        return self.dropout(encoding_RD)  # type: ignore[no-any-return]

    def predict(self, batch: Packed, orders: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Tensor:
        """States of the second stream, to predict tokens from (Yang et al. 2019, equations 3 and 4).

        Args:
            batch: the sequences.
            orders: for each, its positions in the order of their factorization: each sees those before it. Positions
                left out come before all others and see one another.
            targets: for each, the positions to predict, one or more, from where they are and what comes before them.

        Returns:
            (N, D), the targets of one sequence after those of another.

        Raises:
            DataError: an order is none, or a target is not in its order or has nothing before it.
        """
        self.check(batch)
        rank_T = _ranks(batch, orders, targets).to(batch.ids_T.device)
        queries, types_T = pack(targets).to(batch.ids_T.device), _types(batch)
        row_N, layout = queries.ids_T + batch.first_B[queries.owner_T], Layout(queries, memory=batch)
        content = self.flow(batch, len(batch.ids_T), None, None)
        query = replace(
            content,
            layout=layout,
            apart=_compare(torch.ne, layout, types_T[row_N], types_T),
            unseen=_compare(torch.le, layout, rank_T[row_N], rank_T),
            distance=_compare(torch.sub, layout, queries.ids_T, batch.position_T),
        )
        content = replace(content, unseen=_compare(torch.lt, content.layout, rank_T, rank_T))
        h_TD, g_ND = self.embed(batch), self.dropout(self.mask_embedding[0].expand(len(row_N), -1))
        for block in self.blocks:
            g_ND = block(g_ND, replace(query, seen_TD=h_TD))
            h_TD = block(h_TD, content) if block is not self.blocks[-1] else h_TD
        return self.dropout(g_ND)  # type: ignore[no-any-return]


def _types(batch: Packed) -> Tensor:
    return torch.zeros_like(batch.ids_T) if batch.types_T is None else batch.types_T


def _compare(how: Callable[..., Tensor], layout: Layout, queries_T: Tensor, keys_S: Tensor) -> list[Tensor]:
    """Each query's number with each key's, (B, 1, L, M) for each block."""
    laid = zip(layout.blocks.queries.lay(queries_T), layout.blocks.keys.lay(keys_S), strict=True)
    return [how(q_BL[:, None, :, None], k_BM[:, None, None, :]) for q_BL, k_BM in laid]


def _ranks(batch: Packed, orders: Sequence[Sequence[int]], targets: Sequence[Sequence[int]]) -> Tensor:
    """Each token's place in its sequence's order, counted from 1; 0 where the order leaves it out, (T,)."""
    if not len(orders) == len(targets) == len(batch.lengths):
        raise DataError(f"{len(orders)} orders and {len(targets)} lists of targets for {len(batch.lengths)} sequences")
    ranks: list[int] = []
    for number, (length, order, wanted) in enumerate(zip(batch.lengths, orders, targets, strict=True)):
        rank = {place: count for count, place in enumerate(order, 1)}
        if len(rank) < len(order) or not rank.keys() <= set(range(length)):
            raise DataError(f"sequence {number}: its order must name positions 0 to {length - 1} at most once each")
        blind = [place for place in wanted if rank.get(place, 0) <= (len(order) == length)]
        if blind:
            raise DataError(f"sequence {number}: position {blind[0]} must come in its order, and after another token")
        ranks += [rank.get(place, 0) for place in range(length)]
    return torch.tensor(ranks)


KEYS: dict[str, str | tuple[str, ...]] = {
    "vocab_size": "vocab_size",
    "d_model": "hidden_size",
    "n_layer": "layers",
    "n_head": "heads",
    "d_head": "head_size",
    "d_inner": "feed_forward_size",
    "layer_norm_eps": "norm_eps",
    "ff_activation": "activation",
    "dropout": ("dropout", "embedding_dropout", "attention_dropout", "activation_dropout"),
    "initializer_range": "initializer_range",
}
DEFAULTS = {"d_head": 0, "layer_norm_eps": 1e-12, "ff_activation": "gelu", "dropout": 0.1, "initializer_range": 0.02}
SUPPORTED = {"attn_type": "bi", "bi_data": False, "clamp_len": -1, "same_length": False, "untie_r": True}
SUMMARY = {"summary_type": "last", "summary_use_proj": True, "summary_activation": "tanh"}
_LAYER, _BLOCK = "layer.{n}", "backbone.blocks.{n}"
_BIASES = {"r_w_bias": "content_bias", "r_r_bias": "position_bias", "r_s_bias": "segment_bias", "seg_embed": "segments"}
_HEADS = f"{_BLOCK}.attention.content_bias"

RULES = [
    Rule("word_embedding.weight", "backbone.token_embedding.weight"),
    Rule("mask_emb", "backbone.mask_embedding"),
    *(
        Rule(f"{_LAYER}.rel_attn.{theirs}", f"{_BLOCK}.attention.{ours}.weight", theirs != "o", folded=_HEADS)
        for theirs, ours in {"q": "query", "k": "key", "v": "value", "r": "position", "o": "output"}.items()
    ),
    *(Rule(f"{_LAYER}.rel_attn.{theirs}", f"{_BLOCK}.attention.{ours}") for theirs, ours in _BIASES.items()),
    *linear(f"{_LAYER}.rel_attn.layer_norm", f"{_BLOCK}.attention_norm"),
    *linear(f"{_LAYER}.ff.layer_1", f"{_BLOCK}.feed_forward.up"),
    *linear(f"{_LAYER}.ff.layer_2", f"{_BLOCK}.feed_forward.down"),
    *linear(f"{_LAYER}.ff.layer_norm", f"{_BLOCK}.feed_forward_norm"),
]
_POOLED = [*linear("sequence_summary.summary", "head.dense"), *linear("logits_proj", "head.output")]
_BEAM = {"start_n_top": "starts", "end_n_top": "ends", "layer_norm_eps": "norm_eps"}


def pooled_options(published: Published) -> dict[str, Any]:
    """The last token, which XLNet's frame puts there for this, through a tanh layer."""
    only(published, **SUMMARY)
    return {"pool": "last", "dense": "tanh", "dropout": rate(published, "summary_last_dropout", 0.1)}


FAMILY = Family(
    name="xlnet",
    bare="XLNetModel",
    keys=KEYS,
    defaults=DEFAULTS,
    supported=SUPPORTED,
    fixed={"position_kind": "none", "positions": UNLIMITED, "token_types": 3, "biases": ("up", "down")},
    rules=RULES,
    heads={
        "XLNetLMHeadModel": Grafting(
            kind="next",
            rules=linear("lm_loss", "head.output", optional=True),
            options=lambda published: {"tied": tied(published, True), "bias": True},
            publish=publish_tied,
        ),
        "XLNetForSequenceClassification": classifier(pooled_options, *_POOLED),
        "XLNetForMultipleChoice": Grafting(kind="choose", rules=_POOLED, options=pooled_options),
        "XLNetForTokenClassification": tag("classifier", lambda published: 0.0),
        "XLNetForQuestionAnsweringSimple": span(),
        "XLNetForQuestionAnswering": Grafting(
            kind="beam",
            rules=[
                *linear("start_logits.dense", "head.start"),
                *linear("end_logits.dense_0", "head.end_states"),
                *linear("end_logits.LayerNorm", "head.norm"),
                *linear("end_logits.dense_1", "head.end"),
                *linear("answer_class.dense_0", "head.none_states"),
                *linear("answer_class.dense_1", "head.none", bias=False),
            ],
            options=lambda published: {ours: published[key] for key, ours in _BEAM.items() if key in published},
            publish=lambda known: {key: known[ours] for key, ours in _BEAM.items() if ours in known},
        ),
    },
    frame=Frame(between=("<sep>",), end=("<sep>", "<cls>"), types=True, last_type=2),
    prefix="transformer.",
    backbone=XLNet,
)
