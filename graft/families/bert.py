"""BERT and MiniLM (Devlin et al. 2019): a post-norm encoder with token types, a pooler and learned positions."""

from __future__ import annotations

from typing import Any

from graft.families import (
    ACTIVATIONS,
    Family,
    Grafting,
    Published,
    activation,
    label_options,
    only,
    publish_labels,
    rate,
    required,
)
from graft.model.config import Config
from graft.text import Frame
from graft.weights import Rule, linear


def config(published: Published) -> Config:
    """config.json -> Config."""
    only(published, position_embedding_type="absolute", is_decoder=False, add_cross_attention=False)
    keys = "vocab_size", "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size"
    vocab_size, hidden_size, layers, heads, feed_forward_size = required(published, *keys)
    dropout = published.get("hidden_dropout_prob", 0.1)
    return Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        feed_forward_size=feed_forward_size,
        positions=published.get("max_position_embeddings", 512),
        token_types=published.get("type_vocab_size", 2),
        embedding_norm=True,
        norm_eps=published.get("layer_norm_eps", 1e-12),
        activation=activation(published.get("hidden_act", "gelu")),
        dropout=dropout,
        embedding_dropout=dropout,
        attention_dropout=published.get("attention_probs_dropout_prob", 0.1),
        initializer_range=published.get("initializer_range", 0.02),
    )


def publish(config: Config) -> dict[str, Any]:
    """Config -> config.json."""
    return {
        "model_type": "bert",
        "vocab_size": config.vocab_size,
        "hidden_size": config.hidden_size,
        "num_hidden_layers": config.layers,
        "num_attention_heads": config.heads,
        "intermediate_size": config.feed_forward_size,
        "max_position_embeddings": config.positions,
        "type_vocab_size": config.token_types,
        "layer_norm_eps": config.norm_eps,
        "hidden_act": next(theirs for theirs, ours in ACTIVATIONS.items() if ours == config.activation),
        "hidden_dropout_prob": config.dropout,
        "attention_probs_dropout_prob": config.attention_dropout,
        "initializer_range": config.initializer_range,
    }


_LAYER, _BLOCK = "encoder.layer.{n}", "backbone.blocks.{n}"

RULES = [
    Rule("embeddings.word_embeddings.weight", "backbone.token_embedding.weight"),
    Rule("embeddings.position_embeddings.weight", "backbone.position_embedding.weight"),
    Rule("embeddings.token_type_embeddings.weight", "backbone.type_embedding.weight"),
    Rule("embeddings.position_ids", None),
    *linear("embeddings.LayerNorm", "backbone.embedding_norm"),
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
    return {**label_options(published), "pool": "first", "dense": True, "dropout": dropout}


FAMILY = Family(
    name="bert",
    bare="BertModel",
    config=config,
    publish=publish,
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
