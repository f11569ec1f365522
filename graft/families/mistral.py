"""Mistral 7B (Jiang et al. 2023): Llama whose tokens see a sliding window."""

from __future__ import annotations

import dataclasses
from typing import Any

from graft.families import Published, llama
from graft.model.config import Config

WINDOW = 4096


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """No biases; a window of 4,096 tokens unless another, or none, is stated."""
    window = published.get("sliding_window", WINDOW) or 0
    return {"biases": (), "rotary": llama.rotary(published), "windows": (window,) if window else ()}


def entries(config: Config) -> dict[str, Any]:
    """The window, null where there is none, and rotary positions."""
    return {"sliding_window": config.window(0) or None, **llama.publish_rotary(config)}


FAMILY = dataclasses.replace(
    llama.FAMILY,
    name="mistral",
    bare="MistralModel",
    supported={},
    defaults={**llama.DEFAULTS, "num_key_value_heads": 8, "max_position_embeddings": 4096 * 32},
    refine=refine,
    entries=entries,
    heads=llama.heads("Mistral"),
)
