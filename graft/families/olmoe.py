"""OLMoE (Muennighoff et al. 2024): many small experts; queries and keys normalized over all heads."""

from __future__ import annotations

import dataclasses
from typing import Any

from graft.families import Published, llama, mixtral
from graft.model.config import Config
from graft.weights import linear

_OURS = "backbone.blocks.{n}.feed_forward"

MIXTURE = [
    *linear("layers.{n}.mlp.gate", f"{_OURS}.router", bias=False),
    *llama.gated("layers.{n}.mlp.experts.{m}", f"{_OURS}.experts.{{m}}"),
]


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """Experts as large as the feed-forward layer would be; their shares are not scaled to one."""
    normalized = published.get("norm_topk_prob", False)
    experts = mixtral.experts(published, "num_experts", 0.01, size=values["feed_forward_size"], normalized=normalized)
    return {**llama.refine({**published, "mlp_bias": False}, values), "experts": experts}


def entries(config: Config) -> dict[str, Any]:
    """How many experts, and how many for each token."""
    assert config.experts is not None
    return {
        **mixtral.publish_experts(config, "num_experts"),
        "norm_topk_prob": config.experts.normalized,
        "attention_bias": "query" in config.biases,
        **llama.publish_rotary(config),
    }


FAMILY = dataclasses.replace(
    llama.FAMILY,
    name="olmoe",
    bare="OlmoeModel",
    supported={"clip_qkv": None},
    keys={key: ours for key, ours in llama.KEYS.items() if key != "head_dim"},
    defaults={**llama.DEFAULTS, "rms_norm_eps": 1e-5, "max_position_embeddings": 4096},
    fixed={**llama.FIXED, "query_key_norm": "all"},
    refine=refine,
    entries=entries,
    rules=[*llama.ATTENTION, *MIXTURE],
    heads={name: head for name, head in llama.heads("Olmoe").items() if head.kind == "next"},
)
