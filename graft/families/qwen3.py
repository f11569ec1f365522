"""Qwen 3 (Yang et al. 2025): Llama whose queries and keys are normalized head by head."""

from __future__ import annotations

import dataclasses
from typing import Any

from graft.families import Published, llama, qwen2


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """As Llama, with Qwen's windows."""
    windows = qwen2.windows(published, values["layers"])
    return {**llama.refine({**published, "mlp_bias": False}, values), "windows": windows}


FAMILY = dataclasses.replace(
    llama.FAMILY,
    name="qwen3",
    bare="Qwen3Model",
    supported={},
    defaults={**llama.DEFAULTS, "num_key_value_heads": 32, "head_dim": 128, "max_position_embeddings": 32768},
    fixed={**llama.FIXED, "query_key_norm": "head"},
    refine=refine,
    entries=lambda config: {**llama.entries(config), **qwen2.publish_windows(config)},
    heads=llama.heads("Qwen3", "transformer."),
)
