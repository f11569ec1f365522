"""Llama 1 to 3 and the like (Touvron et al. 2023): a pre-norm decoder with rotary positions, RMS norms and a gate."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from graft import families
from graft.errors import ModelError, nearest
from graft.families import Family, Grafting, Published
from graft.model.config import Config, Rotary
from graft.text import GPT
from graft.weights import Rule, linear

KEYS: dict[str, str | tuple[str, ...]] = {
    "vocab_size": "vocab_size",
    "hidden_size": "hidden_size",
    "num_hidden_layers": "layers",
    "num_attention_heads": "heads",
    "num_key_value_heads": "key_heads",
    "head_dim": "head_size",
    "intermediate_size": "feed_forward_size",
    "max_position_embeddings": "positions",
    "rms_norm_eps": "norm_eps",
    "hidden_act": "activation",
    "attention_dropout": "attention_dropout",
    "initializer_range": "initializer_range",
}
DEFAULTS: dict[str, Any] = {
    "num_key_value_heads": 0,
    "head_dim": 0,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "hidden_act": "silu",
    "attention_dropout": 0.0,
    "initializer_range": 0.02,
}
FIXED: dict[str, Any] = {
    "causal": True,
    "norm": "pre",
    "norm_kind": "rms",
    "position_kind": "rotary",
    "gated": True,
}
SCALINGS = ("default", "linear", "llama3")


def rotary(published: Published) -> Rotary:
    """How positions turn, from the entries of older and newer configurations.

    Raises:
        ModelError: positions are scaled in a way Graft does not have.
    """
    said = published.get("rope_parameters") or published.get("rope_scaling") or {}
    if not isinstance(said, Mapping):
        raise ModelError(f"rope_parameters is {said!r:.60}, expected an object")
    kind = said.get("rope_type", said.get("type", "default"))
    if kind not in SCALINGS:
        raise ModelError(f"rope_type is {kind!r:.60}: {nearest(str(kind)[:60], SCALINGS)}")
    if (partial := said.get("partial_rotary_factor", published.get("partial_rotary_factor", 1.0))) != 1.0:
        raise ModelError(f"partial_rotary_factor is {partial!r:.60}, only 1.0 is supported")
    found = {"base": said.get("rope_theta", published.get("rope_theta", 10000.0))}
    if kind != "default":
        found |= {"scaling": kind, "factor": said.get("factor", 1.0)}
    if kind == "llama3":
        names = {"low": "low_freq_factor", "high": "high_freq_factor", "trained": "original_max_position_embeddings"}
        found |= {ours: said[theirs] for ours, theirs in names.items() if theirs in said}
    return Rotary(**found)


def publish_rotary(config: Config) -> dict[str, Any]:
    """The way back, as the newer configurations have it."""
    said = config.rotary
    entries: dict[str, Any] = {"rope_theta": said.base, "rope_type": said.scaling or "default"}
    if said.scaling:
        entries["factor"] = said.factor
    if said.scaling == "llama3":
        entries |= {"low_freq_factor": said.low, "high_freq_factor": said.high}
        entries["original_max_position_embeddings"] = said.trained
    return {"rope_parameters": entries}


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """Biases where the configuration asks for them, and rotary positions."""
    attention = ("query", "key", "value", "output") if published.get("attention_bias") else ()
    inner = ("gate", "up", "down") if published.get("mlp_bias") else ()
    return {"biases": (*attention, *inner), "rotary": rotary(published)}


def entries(config: Config) -> dict[str, Any]:
    """Biases and rotary positions."""
    return {
        "attention_bias": "query" in config.biases,
        "mlp_bias": "up" in config.biases,
        **publish_rotary(config),
    }


_LAYER, _BLOCK = "layers.{n}", "backbone.blocks.{n}"

ATTENTION = [
    Rule("embed_tokens.weight", "backbone.token_embedding.weight"),
    *(
        rule
        for theirs, ours in (("q_proj", "query"), ("k_proj", "key"), ("v_proj", "value"), ("o_proj", "output"))
        for rule in linear(f"{_LAYER}.self_attn.{theirs}", f"{_BLOCK}.attention.{ours}")
    ),
    *linear(f"{_LAYER}.self_attn.q_norm", f"{_BLOCK}.attention.query_norm", bias=False),
    *linear(f"{_LAYER}.self_attn.k_norm", f"{_BLOCK}.attention.key_norm", bias=False),
    Rule(f"{_LAYER}.self_attn.rotary_emb.inv_freq", None),
    *linear(f"{_LAYER}.input_layernorm", f"{_BLOCK}.attention_norm", bias=False),
    *linear(f"{_LAYER}.post_attention_layernorm", f"{_BLOCK}.feed_forward_norm", bias=False),
    *linear("norm", "backbone.final_norm", bias=False),
]


def gated(theirs: str, ours: str, gate: str = "gate_proj", up: str = "up_proj", down: str = "down_proj") -> list[Rule]:
    """The rules of a gated feed-forward layer."""
    pairs = ((gate, "gate"), (up, "up"), (down, "down"))
    return [rule for one, name in pairs for rule in linear(f"{theirs}.{one}", f"{ours}.{name}")]


RULES = [*ATTENTION, *gated(f"{_LAYER}.mlp", f"{_BLOCK}.feed_forward")]


def heads(name: str, span_prefix: str | None = None) -> dict[str, Grafting]:
    """The heads such models are published with, by the beginning of their class names.

    Some families put another prefix before the backbone's names in files of models that point at answers.
    """
    return {
        f"{name}ForCausalLM": families.next_token(default=False),
        f"{name}ForSequenceClassification": families.LAST_TOKEN,
        f"{name}ForTokenClassification": families.tag("score"),
        f"{name}ForQuestionAnswering": families.span(prefix=span_prefix),
    }


FAMILY = Family(
    name="llama",
    bare="LlamaModel",
    keys=KEYS,
    defaults=DEFAULTS,
    fixed=FIXED,
    supported={"pretraining_tp": 1},
    refine=refine,
    entries=entries,
    rules=RULES,
    heads=heads("Llama", "transformer."),
    prefix="model.",
    adapted=GPT,
)
