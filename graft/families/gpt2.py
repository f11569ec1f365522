"""GPT-2 and DistilGPT2 (Radford et al. 2019): a pre-norm decoder with fused, transposed attention weights on disk."""

from __future__ import annotations

from typing import Any

from graft.errors import ModelError
from graft.families import (
    ACTIVATIONS,
    Family,
    Grafting,
    Published,
    activation,
    label_options,
    only,
    publish_labels,
    required,
)
from graft.model.config import Config
from graft.weights import Rule, linear


def config(published: Published) -> Config:
    """config.json -> Config."""
    only(published, scale_attn_weights=True, scale_attn_by_inverse_layer_idx=False, add_cross_attention=False)
    vocab_size, hidden_size, layers, heads = required(published, "vocab_size", "n_embd", "n_layer", "n_head")
    inner = published.get("n_inner")
    if inner is None:
        inner = 4 * hidden_size if isinstance(hidden_size, int) else hidden_size
    return Config(
        vocab_size=vocab_size,
        hidden_size=hidden_size,
        layers=layers,
        heads=heads,
        feed_forward_size=inner,
        positions=published.get("n_positions", 1024),
        causal=True,
        norm="pre",
        norm_eps=published.get("layer_norm_epsilon", 1e-5),
        activation=activation(published.get("activation_function", "gelu_new")),
        dropout=published.get("resid_pdrop", 0.1),
        embedding_dropout=published.get("embd_pdrop", 0.1),
        attention_dropout=published.get("attn_pdrop", 0.1),
        initializer_range=published.get("initializer_range", 0.02),
    )


def publish(config: Config) -> dict[str, Any]:
    """Config -> config.json."""
    default = {"gelu_tanh": "gelu_new"}
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())} | default
    return {
        "model_type": "gpt2",
        "vocab_size": config.vocab_size,
        "n_embd": config.hidden_size,
        "n_layer": config.layers,
        "n_head": config.heads,
        "n_inner": config.feed_forward_size,
        "n_positions": config.positions,
        "layer_norm_epsilon": config.norm_eps,
        "activation_function": names[config.activation],
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.embedding_dropout,
        "attn_pdrop": config.attention_dropout,
        "initializer_range": config.initializer_range,
    }


_BLOCK = "backbone.blocks.{n}"
_QKV = tuple(f"{_BLOCK}.attention.{part}" for part in ("query", "key", "value"))

RULES = [
    Rule("wte.weight", "backbone.token_embedding.weight"),
    Rule("wpe.weight", "backbone.position_embedding.weight"),
    *linear("h.{n}.ln_1", f"{_BLOCK}.attention_norm"),
    *linear("h.{n}.attn.c_attn", _QKV, transposed=True),
    *linear("h.{n}.attn.c_proj", f"{_BLOCK}.attention.output", transposed=True),
    *linear("h.{n}.ln_2", f"{_BLOCK}.feed_forward_norm"),
    *linear("h.{n}.mlp.c_fc", f"{_BLOCK}.feed_forward.up", transposed=True),
    *linear("h.{n}.mlp.c_proj", f"{_BLOCK}.feed_forward.down", transposed=True),
    *linear("ln_f", "backbone.final_norm"),
    Rule("h.{n}.attn.bias", None),
    Rule("h.{n}.attn.masked_bias", None),
]


def classifier_options(published: Published) -> dict[str, Any]:
    """The last token through one linear layer without bias."""
    return {**label_options(published), "pool": "last", "bias": False}


def next_options(published: Published) -> dict[str, Any]:
    """Whether the output matrix is the token embedding (config.json may leave it out; then it is)."""
    tied = published.get("tie_word_embeddings", True)
    if not isinstance(tied, bool):
        raise ModelError(f"tie_word_embeddings is {tied!r:.60}, expected true or false")
    return {"tied": tied}


FAMILY = Family(
    name="gpt2",
    bare="GPT2Model",
    config=config,
    publish=publish,
    rules=RULES,
    heads={
        "GPT2LMHeadModel": Grafting(
            kind="next",
            rules=linear("lm_head", "head.output", bias=False, optional=True),
            options=next_options,
            publish=lambda options: {"tie_word_embeddings": options["tied"]},
        ),
        "GPT2ForSequenceClassification": Grafting(
            kind="classify",
            rules=linear("score", "head.output", bias=False),
            options=classifier_options,
            publish=publish_labels,
        ),
    },
    prefix="transformer.",
)
