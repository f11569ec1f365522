"""Qwen1.5-MoE and Qwen2-MoE (Yang et al. 2024): Qwen 2 with many small experts and one that every token shares."""

from __future__ import annotations

import dataclasses
from typing import Any

from graft.errors import ModelError
from graft.families import Published, llama, mixtral, olmoe, qwen2, required
from graft.model.config import MOST_LAYERS, Config
from graft.weights import linear

_OURS = "backbone.blocks.{n}.feed_forward"


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """Some layers may keep the ordinary feed-forward layer."""
    size, shared = required(published, "moe_intermediate_size", "shared_expert_intermediate_size")
    normalized = published.get("norm_topk_prob", False)
    experts = mixtral.experts(published, "num_experts", 0.001, size=size, shared=shared, normalized=normalized)
    step, kept = published.get("decoder_sparse_step", 1), published.get("mlp_only_layers") or ()
    if type(step) is not int or step < 1:
        raise ModelError(f"decoder_sparse_step is {step!r:.60}, expected a whole number from 1")
    dense = tuple(layer for layer in range(min(values["layers"], MOST_LAYERS)) if layer in kept or (layer + 1) % step)
    return {**qwen2.refine(published, values), "experts": experts, "dense_layers": dense}


def entries(config: Config) -> dict[str, Any]:
    """The experts' numbers and sizes."""
    assert config.experts is not None
    return {
        **mixtral.publish_experts(config, "num_experts"),
        "moe_intermediate_size": config.experts.size,
        "shared_expert_intermediate_size": config.experts.shared,
        "norm_topk_prob": config.experts.normalized,
        "decoder_sparse_step": 1,
        "mlp_only_layers": list(config.dense_layers),
        **qwen2.publish_windows(config),
        **llama.publish_rotary(config),
    }


FAMILY = dataclasses.replace(
    qwen2.FAMILY,
    name="qwen2_moe",
    bare="Qwen2MoeModel",
    refine=refine,
    entries=entries,
    rules=[
        *llama.RULES,
        *olmoe.MIXTURE,
        *llama.gated("layers.{n}.mlp.shared_expert", f"{_OURS}.shared"),
        *linear("layers.{n}.mlp.shared_expert_gate", f"{_OURS}.shared_gate", bias=False),
    ],
    heads=llama.heads("Qwen2Moe"),
)
