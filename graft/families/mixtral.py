"""Mixtral (Jiang et al. 2024): Mistral with a mixture of experts; on disk each expert has tensors of its own."""

from __future__ import annotations

import dataclasses
from typing import Any

from graft.families import Published, llama, mistral, required
from graft.model.config import Config, Experts
from graft.weights import linear

_SPARSE, _OURS = "layers.{n}.block_sparse_moe", "backbone.blocks.{n}.feed_forward"


def experts(published: Published, key: str, balance: float, **more: Any) -> Experts:
    """The experts of a configuration that gives their number under this key.

    Raises:
        ModelError: it does not say how many there are, or how many each token is sent to.
    """
    count, chosen = required(published, key, "num_experts_per_tok")
    stated = published.get("router_aux_loss_coef", balance)
    return Experts(count=count, chosen=chosen, balance=stated, **more)


def publish_experts(config: Config, key: str) -> dict[str, Any]:
    """The way back."""
    assert config.experts is not None
    numbers = {key: config.experts.count, "num_experts_per_tok": config.experts.chosen}
    return {**numbers, "router_aux_loss_coef": config.experts.balance}


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """Experts as large as the feed-forward layer would be."""
    found = experts(published, "num_local_experts", 0.001, size=values["feed_forward_size"])
    return {**mistral.refine({"sliding_window": None, **published}, values), "experts": found}


FAMILY = dataclasses.replace(
    mistral.FAMILY,
    name="mixtral",
    bare="MixtralModel",
    defaults={**mistral.FAMILY.defaults, "rms_norm_eps": 1e-5},
    refine=refine,
    entries=lambda config: {**publish_experts(config, "num_local_experts"), **mistral.entries(config)},
    rules=[
        *llama.ATTENTION,
        *linear(f"{_SPARSE}.gate", f"{_OURS}.router", bias=False),
        *llama.gated(f"{_SPARSE}.experts.{{m}}", f"{_OURS}.experts.{{m}}", gate="w1", up="w3", down="w2"),
    ],
    heads=llama.heads("Mixtral"),
)
