"""GPT-2 and DistilGPT2 (Radford et al. 2019): a pre-norm decoder with fused, transposed attention weights on disk.

GPT-3 (Brown et al. 2020) is the same with layers that see everything and layers that see a band of tokens in turn: an
entry ``attention_windows`` of config.json such as [0, 256], which other tools do not know.
"""

from __future__ import annotations

from typing import Any

from graft import families
from graft.families import Family, Published
from graft.text import GPT
from graft.weights import Rule, linear

KEYS = {
    "vocab_size": "vocab_size",
    "n_embd": "hidden_size",
    "n_layer": "layers",
    "n_head": "heads",
    "n_inner": "feed_forward_size",
    "n_positions": "positions",
    "layer_norm_epsilon": "norm_eps",
    "activation_function": "activation",
    "resid_pdrop": "dropout",
    "embd_pdrop": "embedding_dropout",
    "attn_pdrop": "attention_dropout",
    "initializer_range": "initializer_range",
}
DEFAULTS = {
    "n_inner": None,
    "n_positions": 1024,
    "layer_norm_epsilon": 1e-5,
    "activation_function": "gelu_new",
    "resid_pdrop": 0.1,
    "embd_pdrop": 0.1,
    "attn_pdrop": 0.1,
    "initializer_range": 0.02,
}
SUPPORTED = {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False, "add_cross_attention": False}


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """The feed-forward layer is four times as wide where nothing else is said; windows are Graft's own entry."""
    size, windows = values["hidden_size"], published.get("attention_windows") or ()
    if values["feed_forward_size"] is None:
        values["feed_forward_size"] = 4 * size if isinstance(size, int) else size
    return values | {"windows": tuple(windows)}


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
    *(Rule(f"h.{{n}}.attn.{mask}", None) for mask in ("bias", "masked_bias")),
]


SUMMARY = linear("multiple_choice_head.summary", "head.summary")
"""The multiple-choice head beside the language model of a class with both: kept and saved, not used."""


FAMILY = Family(
    name="gpt2",
    bare="GPT2Model",
    keys=KEYS,
    defaults=DEFAULTS,
    supported=SUPPORTED,
    fixed={"causal": True, "norm": "pre"},
    refine=refine,
    entries=lambda config: {"attention_windows": list(config.windows)} if config.windows else {},
    rules=RULES,
    # Layers that add to the stream begin smaller the more of them there are (section 2.3).
    fresh=lambda config: {r"(attention\.output|down)\.weight": config.initializer_range * (2 * config.layers) ** -0.5},
    heads={
        "GPT2LMHeadModel": families.next_token(default=True),
        "GPT2DoubleHeadsModel": families.next_token(*SUMMARY, default=True),
        "GPT2ForSequenceClassification": families.LAST_TOKEN,
        "GPT2ForTokenClassification": families.tag("classifier"),
        "GPT2ForQuestionAnswering": families.span(),
    },
    prefix="transformer.",
    adapted=GPT,
)
