"""Mixtral (Jiang et al. 2024): Mistral with a mixture of experts; on disk each expert has tensors of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

from graft.families import Published, llama, mistral, required
from graft.model.config import Config, Experts
from graft.weights import linear

_SPARSE, _OURS = "layers.{n}.block_sparse_moe", "backbone.blocks.{n}.feed_forward"


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """Experts as large as the feed-forward layer would be."""
    count, chosen = required(published, "num_local_experts", "num_experts_per_tok")
    balance = published.get("router_aux_loss_coef", 0.001)
    experts = Experts(count=count, chosen=chosen, size=values["feed_forward_size"], balance=balance)
    return {**mistral.refine({"sliding_window": None, **published}, values), "experts": experts}


def entries(config: Config) -> dict[str, Any]:
    """How many experts, and how many for each token."""
    assert config.experts is not None
    return {
        "num_local_experts": config.experts.count,
        "num_experts_per_tok": config.experts.chosen,
        "router_aux_loss_coef": config.experts.balance,
        **mistral.entries(config),
    }


FAMILY = dataclasses.replace(
    mistral.FAMILY,
    name="mixtral",
    bare="MixtralModel",
    defaults={**mistral.FAMILY.defaults, "rms_norm_eps": 1e-5},
    refine=refine,
    entries=entries,
    rules=[
        *llama.ATTENTION,
        *linear(f"{_SPARSE}.gate", f"{_OURS}.router", bias=False),
        *llama.gated(f"{_SPARSE}.experts.{{m}}", f"{_OURS}.experts.{{m}}", gate="w1", up="w3", down="w2"),
    ],
    heads=llama.heads("Mixtral"),
)
