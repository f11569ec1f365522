"""Writing LoRA as the library peft does."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from graft.adapters.layers import LowRank
from graft.adapters.peft import PREFIX, A, B
from graft.errors import ModelError
from graft.families import Family
from graft.weights import Match, homes, template, write

TASKS = {
    "classify": "SEQ_CLS",
    "regress": "SEQ_CLS",
    "tag": "TOKEN_CLS",
    "span": "QUESTION_ANS",
    "next": "CAUSAL_LM",
    "embed": "FEATURE_EXTRACTION",
}
"""Kind of a head -> peft's task_type."""


@dataclass(frozen=True, kw_only=True)
class Written:
    """One layer of a published model with its factors: a layer of ours, or several that are joined in files."""

    place: Match
    a: Tensor
    b: Tensor
    scale: float

    @property
    def module(self) -> str:
        """Its published name."""
        return self.place.theirs.removesuffix(".weight")

    @property
    def alpha(self) -> float:
        """What peft divides by the rank; whole where it is."""
        value = self.scale * len(self.a)
        return int(value) if value == int(value) else value


def files(
    family: Family,
    architecture: str,
    kind: str,
    layers: Mapping[str, LowRank],
    own: Mapping[str, Tensor],
    learned: Collection[str],
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """The configuration, without the base's name, and the tensors of an adapter as peft writes them.

    Args:
        family: the family.
        architecture: the published class.
        kind: of the head; "" where there is none.
        layers: what was wrapped, by our names, which begin with ``backbone.``.
        own: all tensors of the model without the factors, by our names.
        learned: names of those that are kept as well: the head's and whatever else learned.

    Raises:
        ModelError: the family has no published name for a layer.
    """
    table = family.table(architecture)
    places = homes(table, own.keys())
    written = _layers(family, layers, places, own)
    kept = write(table, {name: own[name] for name in learned})
    tensors = {f"{PREFIX}{one.module}{end}": part for one in written for end, part in ((A, one.a), (B, one.b))}
    tensors |= {PREFIX + name: tensor for name, tensor in kept.items()}
    rank = Counter(len(one.a) for one in written).most_common(1)[0][0]
    alpha = Counter(one.alpha for one in written).most_common(1)[0][0]
    every = {place.theirs.removesuffix(".weight") for place in places.values() if place}
    config = {
        "peft_type": "LORA",
        "task_type": "SEQ_2_SEQ_LM" if kind == "next" and family.encoder else TASKS.get(kind),
        "r": rank,
        "lora_alpha": alpha,
        "rank_pattern": {one.module: len(one.a) for one in written if len(one.a) != rank},
        "alpha_pattern": {one.module: one.alpha for one in written if one.alpha != alpha},
        "lora_dropout": next(iter(layers.values())).dropout.rate,
        "target_modules": targets([one.module for one in written], every),
        "modules_to_save": _modules(kept, family.before(architecture)) or None,
        "fan_in_fan_out": any(one.place.rule.transposed and not one.place.folded for one in written),
        "bias": "none",
        "init_lora_weights": True,
        "inference_mode": True,
    }
    return config, tensors


def _layers(
    family: Family, layers: Mapping[str, LowRank], places: Mapping[str, Match | None], own: Mapping[str, Tensor]
) -> list[Written]:
    found: dict[str, Written] = {}
    for name, layer in layers.items():
        place = places[f"{name}.weight"]
        if place is None:
            raise ModelError(f"no published name for {name}: {family.name} models cannot hold factors there")
        if place.theirs not in found:
            parts = [layers.get(part.removesuffix(".weight")) for part in place.names]
            a, b = _joined(parts, [len(own[part]) for part in place.names])
            found[place.theirs] = Written(place=place, a=a, b=b, scale=layer.scale)
    return list(found.values())


def _joined(parts: Sequence[LowRank | None], sizes: Sequence[int]) -> tuple[Tensor, Tensor]:
    """Factors of layers side by side: where they share A it stays one, else B has a block for each and zeros beside."""
    there = [part for part in parts if part is not None]
    if len(there) == len(parts) and all(torch.equal(part.lora_a, there[0].lora_a) for part in there):
        return there[0].lora_a.detach(), torch.cat([part.lora_b.detach() for part in there])
    a, column = torch.cat([part.lora_a.detach() for part in there]), 0
    b = a.new_zeros(sum(sizes), len(a))
    for part, rows in zip(parts, torch.split(b, list(sizes)), strict=True):
        if part is not None:
            width = len(part.lora_a)
            rows[:, column : column + width] = part.lora_b.detach()
            column += width
    return a, b


def targets(modules: Collection[str], every: Collection[str]) -> list[str]:
    """Names by which peft finds these layers among all: ends that no other layer shares, else whole names."""
    found: set[str] = set()
    groups: dict[str, list[str]] = {}
    for module in modules:
        groups.setdefault(template(f"{module}.", 1)[0], []).append(module)
    for pattern, group in groups.items():
        words = pattern.rstrip(".").rpartition("{n}.")[2].split(".")
        ends = (".".join(words[-length:]) for length in range(1, len(words) + 1))
        short = next((end for end in ends if _named(end, every) <= set(modules)), None)
        found.update(group if short is None else [short])
    return sorted(found)


def _named(end: str, every: Collection[str]) -> set[str]:
    return {one for one in every if f".{one}".endswith(f".{end}")}


def _modules(kept: Collection[str], prefix: str) -> list[str]:
    """The modules that peft keeps whole: a head's outermost one, or the very layer within the backbone."""
    layers = [name.rpartition(".")[0] for name in kept]
    return sorted({one if prefix and one.startswith(prefix) else one.partition(".")[0] for one in layers})
