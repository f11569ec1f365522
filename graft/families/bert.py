"""BERT and MiniLM (Devlin et al. 2019): a post-norm encoder with token types, a pooler and learned positions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from graft import families
from graft.families import Family, Grafting, Published
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
    "is_decoder": "causal",
}
DEFAULTS = {
    "max_position_embeddings": 512,
    "type_vocab_size": 2,
    "layer_norm_eps": 1e-12,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "is_decoder": False,
}
SUPPORTED = {"position_embedding_type": "absolute", "add_cross_attention": False}

_LAYER, _BLOCK = "encoder.layer.{n}", "backbone.blocks.{n}"


def old(rules: Sequence[Rule]) -> list[Rule]:
    """Normalizations as the first files named their weights and biases; to be put before the rules they stand for."""
    names = {"LayerNorm.weight": "LayerNorm.gamma", "LayerNorm.bias": "LayerNorm.beta"}
    return [
        replace(rule, theirs=rule.theirs.replace(new, first))
        for rule in rules
        for new, first in names.items()
        if rule.theirs.endswith(new)
    ]


EMBEDDINGS = [
    Rule("embeddings.word_embeddings.weight", "backbone.token_embedding.weight"),
    Rule("embeddings.position_embeddings.weight", "backbone.position_embedding.weight"),
    Rule("embeddings.position_ids", None),
    *linear("embeddings.LayerNorm", "backbone.embedding_norm"),
]
_RULES = [
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
RULES = [*old(_RULES), *_RULES]


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """A class that predicts the next token sees none after it, and must say so; no other class is such a decoder."""
    predicts = families.named(published).endswith(("LMHeadModel", "ForCausalLM"))
    families.only({"is_decoder": values["causal"]}, is_decoder=predicts)
    return {"causal": predicts}


def dropout(published: Published) -> float:
    """Before the last layer of most heads."""
    return families.rate(published, "classifier_dropout", families.rate(published, "hidden_dropout_prob", 0.1))


def pooled_options(published: Published) -> dict[str, Any]:
    """The first token through a tanh layer, dropout, then one linear layer."""
    return {"pool": "first", "dense": "tanh", "dropout": dropout(published)}


def mask_options(published: Published) -> dict[str, Any]:
    """A transform as in the blocks. Where the matrix is tied, the bias lies apart and is tied to the layer's own."""
    both = families.tied(published, True)
    name, eps = (published.get(key) or DEFAULTS[key] for key in ("hidden_act", "layer_norm_eps"))
    return {"tied": both, "apart": both, "activation": families.activation(name), "norm_eps": eps}


MASK = [
    *linear("cls.predictions.transform.dense", "head.transform"),
    *linear("cls.predictions.transform.LayerNorm", "head.norm"),
    *linear("cls.predictions.decoder", "head.output", optional=True),
    Rule("cls.predictions.bias", "head.bias", optional=True),
]
NEXT_SENTENCE, OUTPUT = linear("cls.seq_relationship", "head.next_sentence"), linear("classifier", "head.output")


FAMILY = Family(
    name="bert",
    bare="BertModel",
    keys=KEYS,
    defaults=DEFAULTS,
    supported=SUPPORTED,
    fixed={"embedding_norm": True},
    refine=refine,
    rules=RULES,
    heads={
        "BertForMaskedLM": families.mask(
            mask_options, *old(MASK), *MASK, *(replace(rule, ours=None) for rule in NEXT_SENTENCE)
        ),
        # The pooler and the next-sentence layer of this class are kept and saved, not used.
        "BertForPreTraining": families.mask(
            mask_options, *old(MASK), *MASK, *linear("bert.pooler.dense", "head.dense"), *NEXT_SENTENCE
        ),
        "BertLMHeadModel": families.mask(mask_options, *old(MASK), *MASK, kind="next"),
        "BertForSequenceClassification": families.classifier(pooled_options, *OUTPUT),
        "BertForMultipleChoice": Grafting(kind="choose", rules=OUTPUT, options=pooled_options),
        "BertForTokenClassification": families.tag("classifier", dropout),
        "BertForQuestionAnswering": families.span(),
    },
    frame=Frame(start=("[CLS]",), between=("[SEP]",), end=("[SEP]",), types=True),
    prefix="bert.",
)
