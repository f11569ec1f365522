"""BERT and MiniLM (Devlin et al. 2019): a post-norm encoder with token types, a pooler and learned positions."""

from __future__ import annotations

from typing import Any

from graft.families import Family, Grafting, Published, label_options, publish_labels, rate
from graft.text import Frame
from graft.weights import Rule, linear

KEYS: dict[str, str | tuple[str, ...]] = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "intermediate_size": "feed_forward_size",
    "max_position_embeddings": "positions",
    "type_vocab_size": "token_types",
    "layer_norm_eps": "norm_eps",
    "hidden_act": "activation",
    "hidden_dropout_prob": ("dropout", "embedding_dropout"),
    "attention_probs_dropout_prob": "attention_dropout",
    "initializer_range": "initializer_range",
}
DEFAULTS = {
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
}
SUPPORTED = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}

_LAYER, _BLOCK = "encoder.layer.{n}", "backbone.blocks.{n}"

EMBEDDINGS = [
    Rule("embeddings.word_embeddings.weight", "backbone.token_embedding.weight"),
    Rule("embeddings.position_embeddings.weight", "backbone.position_embedding.weight"),
    Rule("embeddings.position_ids", None),
    *linear("embeddings.LayerNorm", "backbone.embedding_norm"),
]
RULES = [
    *EMBEDDINGS,
    Rule("embeddings.token_type_embeddings.weight", "backbone.type_embedding.weight"),
    *linear(f"{_LAYER}.attention.self.query", f"{_BLOCK}.attention.query"),
    *linear(f"{_LAYER}.attention.self.key", f"{_BLOCK}.attention.key"),
    *linear(f"{_LAYER}.attention.self.value", f"{_BLOCK}.attention.value"),
    *linear(f"{_LAYER}.attention.output.dense", f"{_BLOCK}.attention.output"),
    *linear(f"{_LAYER}.attention.output.LayerNorm", f"{_BLOCK}.attention_norm"),
    *linear(f"{_LAYER}.intermediate.dense", f"{_BLOCK}.feed_forward.up"),
    *linear(f"{_LAYER}.output.dense", f"{_BLOCK}.feed_forward.down"),
    *linear(f"{_LAYER}.output.LayerNorm", f"{_BLOCK}.feed_forward_norm"),
    *linear("pooler.dense", "head.dense", optional=True),
]


def classifier_options(published: Published) -> dict[str, Any]:
    """The first token through a tanh layer, dropout, then one linear layer."""
    dropout = rate(published, "classifier_dropout", rate(published, "hidden_dropout_prob", 0.1))
    return {**label_options(published), "pool": "first", "dense": "tanh", "dropout": dropout}


FAMILY = Family(
    name="bert",
    bare="BertModel",
    keys=KEYS,
    defaults=DEFAULTS,
    supported=SUPPORTED,
    fixed={"embedding_norm": True},
    rules=RULES,
    heads={
        "BertForSequenceClassification": Grafting(
            kind="classify",
            rules=linear("classifier", "head.output"),
            options=classifier_options,
            publish=publish_labels,
        ),
    },
    frame=Frame(start=("[CLS]",), between=("[SEP]",), end=("[SEP]",), types=True),
    prefix="bert.",
)
