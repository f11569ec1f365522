"""Qwen 2 and 2.5 (Yang et al. 2024): Llama with biases on queries, keys and values."""

from __future__ import annotations

import dataclasses
from typing import Any

from graft.errors import ModelError
from graft.families import Published, llama
from graft.model.config import MOST_LAYERS, Config

KINDS = ("full_attention", "sliding_attention")


def windows(published: Published, layers: int) -> tuple[int, ...]:
    """The window of each layer: none unless sliding windows are on, then from a certain layer up."""
    if not published.get("use_sliding_window"):
        return ()
    size, kinds = published.get("sliding_window") or 0, published.get("layer_types")
    if kinds is None:
        full = published.get("max_window_layers", 28)
        kinds = [KINDS[layer >= full] for layer in range(min(layers, MOST_LAYERS))]
    if not isinstance(kinds, list) or not all(kind in KINDS for kind in kinds):
        raise ModelError(f"layer_types is {kinds!r:.60}, expected a list of {' and '.join(KINDS)}")
    return tuple(size if kind == "sliding_attention" else 0 for kind in kinds[:layers])


def publish_windows(config: Config) -> dict[str, Any]:
    """The way back."""
    if not any(config.windows):
        return {"use_sliding_window": False}
    sizes = [config.window(layer) for layer in range(config.layers)]
    kinds = ["sliding_attention" if size else "full_attention" for size in sizes]
    return {"use_sliding_window": True, "sliding_window": max(sizes), "layer_types": kinds}


def refine(published: Published, values: dict[str, Any]) -> dict[str, Any]:
    """Biases, windows and rotary positions."""
    found = windows(published, values["layers"])
    return {"biases": ("query", "key", "value"), "windows": found, "rotary": llama.rotary(published)}


FAMILY = dataclasses.replace(
    llama.FAMILY,
    name="qwen2",
    bare="Qwen2Model",
    supported={},
    keys={key: ours for key, ours in llama.KEYS.items() if key != "head_dim"},
    defaults={**llama.DEFAULTS, "num_key_value_heads": 32, "max_position_embeddings": 32768},
    refine=refine,
    entries=lambda config: {**publish_windows(config), **llama.publish_rotary(config)},
    heads=llama.heads("Qwen2", "transformer."),
)
