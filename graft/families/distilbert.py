"""DistilBERT (Sanh et al. 2019): BERT with half the layers, without token types and pooler."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from torch import Tensor, nn

from graft import families
from graft.families import Family, Grafting, Published, bert
from graft.model.block import Block
from graft.model.transformer import Transformer
from graft.text import Frame
from graft.weights import Rule, linear

KEYS: dict[str, str | tuple[str, ...]] = {
    "vocab_size": "vocab_size",
    "dim": "hidden_size",
    "n_layers": "layers",
    "n_heads": "heads",
    "hidden_dim": "feed_forward_size",
    "max_position_embeddings": "positions",
    "activation": "activation",
    "dropout": ("dropout", "embedding_dropout"),
    "attention_dropout": "attention_dropout",
    "initializer_range": "initializer_range",
}
DEFAULTS = {
    "max_position_embeddings": 512,
    "activation": "gelu",
    "dropout": 0.1,
    "attention_dropout": 0.1,
    "initializer_range": 0.02,
}

_LAYER, _BLOCK = "transformer.layer.{n}", "backbone.blocks.{n}"

RULES = [
    *bert.EMBEDDINGS,
    *linear(f"{_LAYER}.attention.q_lin", f"{_BLOCK}.attention.query"),
    *linear(f"{_LAYER}.attention.k_lin", f"{_BLOCK}.attention.key"),
    *linear(f"{_LAYER}.attention.v_lin", f"{_BLOCK}.attention.value"),
    *linear(f"{_LAYER}.attention.out_lin", f"{_BLOCK}.attention.output"),
    *linear(f"{_LAYER}.sa_layer_norm", f"{_BLOCK}.attention_norm"),
    *linear(f"{_LAYER}.ffn.lin1", f"{_BLOCK}.feed_forward.up"),
    *linear(f"{_LAYER}.ffn.lin2", f"{_BLOCK}.feed_forward.down"),
    *linear(f"{_LAYER}.output_layer_norm", f"{_BLOCK}.feed_forward_norm"),
]


class DistilBlock(Block):
    """A block whose attention has dropout on its weights alone, none on its output."""

    def _add(self, x_TD: Tensor, normalize: nn.Module, part: Callable[[Tensor], Tensor]) -> Tensor:
        if normalize is self.attention_norm:
            return normalize(x_TD + part(x_TD))  # type: ignore[no-any-return]
        return super()._add(x_TD, normalize, part)


class DistilTransformer(Transformer):
    """A backbone of such blocks."""

    block = DistilBlock


def mask_options(published: Published) -> dict[str, Any]:
    """A transform with the model's activation."""
    name = published.get("activation") or DEFAULTS["activation"]
    return {"tied": families.tied(published, True), "activation": families.activation(name), "norm_eps": 1e-12}


def pooled_options(published: Published) -> dict[str, Any]:
    """The first token through a ReLU layer, dropout, then one linear layer."""
    return {"pool": "first", "dense": "relu", "dropout": families.rate(published, "seq_classif_dropout", 0.2)}


MASK = [
    *linear("vocab_transform", "head.transform"),
    *linear("vocab_layer_norm", "head.norm"),
    Rule("vocab_projector.weight", "head.output.weight", optional=True),
    Rule("vocab_projector.bias", "head.output.bias"),
]
_POOLED = [*linear("pre_classifier", "head.dense"), *linear("classifier", "head.output")]


FAMILY = Family(
    name="distilbert",
    bare="DistilBertModel",
    keys=KEYS,
    defaults=DEFAULTS,
    fixed={"embedding_norm": True, "norm_eps": 1e-12},
    rules=RULES,
    heads={
        "DistilBertForMaskedLM": families.mask(mask_options, *MASK),
        "DistilBertForSequenceClassification": families.classifier(pooled_options, *_POOLED),
        "DistilBertForMultipleChoice": Grafting(kind="choose", rules=_POOLED, options=pooled_options),
        "DistilBertForTokenClassification": families.tag(
            "classifier", partial(families.rate, key="dropout", default=0.1)
        ),
        "DistilBertForQuestionAnswering": families.span(partial(families.rate, key="qa_dropout", default=0.1)),
    },
    frame=Frame(start=("[CLS]",), between=("[SEP]",), end=("[SEP]",)),
    prefix="distilbert.",
    backbone=DistilTransformer,
)
