"""DistilBERT (Sanh et al. 2019): BERT with half the layers, without token types and pooler."""

from __future__ import annotations

from typing import Any

from graft.families import Family, Grafting, Published, bert, label_options, publish_labels, rate
from graft.text import Frame
from graft.weights import linear

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


def classifier_options(published: Published) -> dict[str, Any]:
    """The first token through a ReLU layer, dropout, then one linear layer."""
    body = {"pool": "first", "dense": "relu", "dropout": rate(published, "seq_classif_dropout", 0.2)}
    return {**label_options(published), **body}


FAMILY = Family(
    name="distilbert",
    bare="DistilBertModel",
    keys=KEYS,
    defaults=DEFAULTS,
    fixed={"embedding_norm": True, "norm_eps": 1e-12},
    rules=RULES,
    heads={
        "DistilBertForSequenceClassification": Grafting(
            kind="classify",
            rules=[*linear("pre_classifier", "head.dense"), *linear("classifier", "head.output")],
            options=classifier_options,
            publish=publish_labels,
        ),
    },
    frame=Frame(start=("[CLS]",), between=("[SEP]",), end=("[SEP]",)),
    prefix="distilbert.",
)
