"""LoRA in the files of the library peft: ``adapter_config.json`` and ``adapter_model.safetensors``."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from graft.adapters.layers import LowRank
from graft.errors import ModelError, listed
from graft.files import read_json
from graft.shards import Shards
from graft.weights import Match, Rule, match

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
PREFIX, A, B = "base_model.model.", ".lora_A.weight", ".lora_B.weight"
MOST_RANK = 2**16
KINDS = {
    "SEQ_CLS": "classify",
    "TOKEN_CLS": "tag",
    "QUESTION_ANS": "span",
    "CAUSAL_LM": "next",
    "SEQ_2_SEQ_LM": "next",
    "FEATURE_EXTRACTION": "",
}
PLAIN = (
    "use_dora",
    "use_qalora",
    "use_bdlora",
    "lora_bias",
    "layer_replication",
    "alora_invocation_tokens",
    "trainable_token_indices",
    "target_parameters",
    "arrow_config",
    "kasa_config",
    "velora_config",
    "monteclora_config",
)
"""Entries that ask for more than LoRA as published; set, they would silently compute something else."""

MOVED = ("pissa", "olora", "corda", "loftq", "lora_ga")
"""Ways to begin that change the base's own weights, which the adapter's file does not hold."""


@dataclass(frozen=True, kw_only=True)
class Described:
    """An adapter_config.json, checked.

    Attributes:
        reference: of the base model.
        revision: of the base model on the hub.
        task: peft's name of the task.
        published: the class of transformers it was made on, where that is said.
        rank: r.
        dropout: rate before A while training.
        scales: how to work out the factor on B A.
    """

    reference: str
    revision: str | None
    task: str | None
    published: str | None
    rank: int
    dropout: float
    scales: Scales


@dataclass(frozen=True, kw_only=True)
class Scales:
    """The factor on B A, alpha / r or alpha / sqrt(r) (Kalajdzievski 2023), with exceptions by name of a layer."""

    alpha: float
    alphas: Mapping[str, float]
    ranks: Mapping[str, float]
    rooted: bool

    def rank(self, module: str, default: int) -> float:
        """The stated rank of one layer."""
        return _exception(self.ranks, module, default)

    def of(self, module: str, rank: int) -> float:
        """The factor for one layer of this rank."""
        return _exception(self.alphas, module, self.alpha) / (math.sqrt(rank) if self.rooted else rank)


def _exception(known: Mapping[str, float], module: str, default: float) -> float:
    return next((value for key, value in known.items() if f".{module}".endswith(f".{key}")), default)


def describe(folder: Path) -> Described:
    """Read adapter_config.json.

    Raises:
        ModelError: it is damaged, not of LoRA, or asks for what Graft does not have.
    """
    path = folder / CONFIG
    said = read_json(path)
    if said.get("peft_type") != "LORA":
        raise ModelError(f"{path}: peft_type is {said.get('peft_type')!r:.60}, Graft reads 'LORA'")
    more = [key for key in PLAIN if said.get(key)]
    began = said.get("init_lora_weights", True)
    if isinstance(began, str) and began.lower().startswith(MOVED):
        more.append(f"init_lora_weights={began:.40}")
    if more:
        raise ModelError(f"{path}: asks for {listed(more)}, which Graft does not have; merge it with peft")
    mapping = said.get("auto_mapping")
    scales = Scales(
        alpha=_number(path, said, "lora_alpha", 8, 1e6),
        alphas=_pattern(path, said, "alpha_pattern", 1e6),
        ranks=_pattern(path, said, "rank_pattern", MOST_RANK),
        rooted=said.get("use_rslora") is True,
    )
    return Described(
        reference=_text(path, said, "base_model_name_or_path") or "",
        revision=_text(path, said, "revision"),
        task=_text(path, said, "task_type"),
        published=mapping.get("base_model_class") if isinstance(mapping, dict) else None,
        rank=_rank(path, said),
        dropout=_number(path, said, "lora_dropout", 0.0, 0.99),
        scales=scales,
    )


def _text(path: Path, said: Mapping[str, Any], key: str) -> str | None:
    value = said.get(key)
    if value is not None and not isinstance(value, str):
        raise ModelError(f"{path}: {key} is {value!r:.60}, expected text")
    return value


def _rank(path: Path, said: Mapping[str, Any]) -> int:
    value = said.get("r", 8)
    if not isinstance(value, int) or isinstance(value, bool) or not 1 <= value <= MOST_RANK:
        raise ModelError(f"{path}: r is {value!r:.60}, expected a whole number from 1 to {MOST_RANK}")
    return value


def _number(path: Path, said: Mapping[str, Any], key: str, default: float, most: float) -> float:
    value = said.get(key, default)
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
        raise ModelError(f"{path}: {key} is {value!r:.60}, expected a number from 0 to {most:g}")
    return value


def _pattern(path: Path, said: Mapping[str, Any], key: str, most: float) -> dict[str, float]:
    """Exceptions by the end of a layer's name. peft takes regular expressions; plain names alone are read here."""
    value = said.get(key) or {}
    if not isinstance(value, dict):
        raise ModelError(f"{path}: {key} is {value!r:.60}, expected an object")
    found = {name.removeprefix("^").replace("\\.", "."): _number(path, value, name, 0, most) for name in value}
    strange = [name for name in found if not re.fullmatch(r"[\w.]+", name)]
    if strange:
        raise ModelError(f"{path}: {key} names layers by {strange[0]!r:.80}; Graft reads plain names alone")
    return found


@dataclass(frozen=True, kw_only=True)
class Factors:
    """A and B of one layer of a file, which may be several of ours joined.

    Attributes:
        place: where the layer's weight lies, and which of ours it is.
        a: the tensor in the file, (r, in).
        b: the tensor in the file, (out, r).
        scale: factor on B A.
    """

    place: Match
    a: str
    b: str
    scale: float


def find(
    folder: Path, said: Described, shards: Shards, rules: Sequence[Rule], own: Mapping[str, torch.Size], prefix: str
) -> tuple[list[Factors], dict[str, str]]:
    """Find which layers the tensors of an adapter belong to.

    Args:
        folder: for messages.
        said: its configuration.
        shards: its tensors.
        rules: of the base's class.
        own: names and shapes of the base's tensors, beginning with ``backbone.`` or ``head.``.
        prefix: what the base's class puts before the backbone's names.

    Returns:
        The factors; and for all other tensors their published name -> their name in the file.

    Raises:
        ModelError: a tensor belongs to no layer, has the wrong shape, or lacks its partner.
    """
    published = {_published(folder, name): name for name in shards.entries}
    modules = sorted({name[: -len(end)] for name in published for end in (A, B) if name.endswith(end)})
    lacking = [module + end for module in modules for end in (A, B) if module + end not in published]
    if lacking:
        raise ModelError(f"{folder / WEIGHTS}: lacks {listed(lacking[:5])}, the partner of a factor that is there")
    weights = {name: module for module in modules for name in (f"{module}.weight", module)}
    places = {weights[one.theirs]: one for one in match(rules, list(weights), own.keys(), prefix)[0]}
    strangers = [module for module in modules if module not in places or not set(places[module].names) <= own.keys()]
    if strangers:
        raise ModelError(
            f"{folder / WEIGHTS}: {len(strangers)} layers are not in the base, such as {listed(strangers[:3])}; "
            "is this an adapter of another model?"
        )
    found = [_factors(folder, said, shards, module, places[module], published, own) for module in modules]
    return found, {name: theirs for name, theirs in published.items() if not name.endswith((A, B))}


def _published(folder: Path, name: str) -> str:
    if not name.startswith(PREFIX):
        raise ModelError(f"{folder / WEIGHTS}: the tensor {name!r:.100} is not named as peft names them ({PREFIX}...)")
    return name.removeprefix(PREFIX).replace(".base_layer.", ".").replace(".modules_to_save.", ".")


def _factors(
    folder: Path,
    said: Described,
    shards: Shards,
    module: str,
    place: Match,
    published: Mapping[str, str],
    own: Mapping[str, torch.Size],
) -> Factors:
    a, b = published[module + A], published[module + B]
    shape_a, shape_b = shards.entries[a].shape, shards.entries[b].shape
    rank = shape_a[0] if shape_a else 0
    out, size = sum(own[name][0] for name in place.names), own[place.names[0]][1]
    if rank < 1 or shape_a != (rank, size) or shape_b != (out, rank):
        raise ModelError(
            f"{folder / WEIGHTS}: factors of {module} have shapes {list(shape_a)} and {list(shape_b)}, "
            f"expected [r, {size}] and [{out}, r] with r at least 1"
        )
    if said.scales.rank(module, said.rank) != rank:
        stated = said.scales.rank(module, said.rank)
        raise ModelError(f"{folder / CONFIG}: gives {module} rank {stated:g}, its factors have rank {rank}")
    return Factors(place=place, a=a, b=b, scale=said.scales.of(module, rank))


def put_in(backbone: nn.Module, found: Sequence[Factors], shards: Shards, dropout: float, dtype: torch.dtype) -> None:
    """Wrap the layers of a backbone. Of layers joined in the file, each takes what is its own and not zero."""
    for one in (one for one in found if not _of_head(one)):
        a, b = (shards.tensor(name).to(dtype) for name in (one.a, one.b))
        joined = len(one.place.names) > 1
        for name, part in zip(one.place.names, b.chunk(len(one.place.names)), strict=True):
            used = part.any(0) if joined else torch.ones(len(a), dtype=torch.bool)
            if used.any():
                path = name.removeprefix("backbone.").removesuffix(".weight")
                layer = backbone.get_submodule(path)
                assert isinstance(layer, nn.Linear)
                wrapped = LowRank(layer, int(used.sum()), one.scale, dropout)
                wrapped.lora_a, wrapped.lora_b = nn.Parameter(a[used]), nn.Parameter(part[:, used].contiguous())
                backbone.set_submodule(path, wrapped)


def fold_in(head: dict[str, Tensor], found: Sequence[Factors], shards: Shards) -> None:
    """Merge factors on layers of a base's head into its tensors, whose names lack ``head.``: a head is kept whole."""
    for one in filter(_of_head, found):
        name = one.place.names[0].removeprefix("head.")
        a, b = (shards.tensor(part).float() for part in (one.a, one.b))
        head[name] = torch.addmm(head[name].float(), b, a, alpha=one.scale).to(head[name].dtype)


def _of_head(one: Factors) -> bool:
    return one.place.names[0].startswith("head.")
