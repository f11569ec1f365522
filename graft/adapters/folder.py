"""Opening an adapter: its base is found and compared, its tensors are put in."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graft import checkpoint, hub, sealed
from graft.adapters import learned, peft
from graft.adapters.base import Base, identity
from graft.adapters.learned import LEARNED
from graft.adapters.peft import CONFIG, WEIGHTS, Described, Factors
from graft.adapters.wrapping import added
from graft.checkpoint import Inspected, Loaded
from graft.errors import GraftError, ModelError, listed
from graft.families import Grafting, label_names
from graft.shards import INDEX, SINGLE, Shards
from graft.weights import Match, Rule, match

LONGEST = 1024
"""No reference to a base is longer."""


@dataclass(frozen=True, kw_only=True)
class Opened:
    """What the headers of an adapter and of its base say; no weight has been read.

    Attributes:
        base: the base.
        seen: the base, as the published class the adapter makes of it.
        shards: the adapter's own tensors.
        factors: of LoRA.
        dropout: of LoRA, while training.
        sizes: of bottlenecks, by layer.
        mixed: whether there is a mix of layers.
        others: the adapter's further tensors, the head's among them, by their names in its file.
    """

    base: Base
    seen: Inspected
    shards: Shards
    factors: list[Factors]
    dropout: float
    sizes: dict[str, int]
    mixed: bool = False
    others: list[Match]


def holds(folder: Path) -> bool:
    """Whether a folder holds an adapter.

    Raises:
        ModelError: it holds a whole model, too.
    """
    small = [name for name in (WEIGHTS, LEARNED) if (folder / name).is_file()]
    whole = [name for name in (SINGLE, INDEX) if (folder / name).is_file()]
    if small and len(small) + len(whole) > 1:
        raise ModelError(f"{folder}: holds {listed([*small, *whole])}: a whole model or one adapter; remove the other")
    return bool(small)


def look(folder: Path) -> Opened:
    """Find an adapter's base, and compare the two.

    Raises:
        ModelError: the adapter is damaged or unsupported, its base is missing or another one, or they do not fit.
    """
    settings = sealed.read(folder)
    said = peft.describe(folder) if (folder / WEIGHTS).is_file() else None
    base = _base(folder, said, settings)
    shards = Shards(folder, WEIGHTS if said else LEARNED)
    seen = checkpoint.inspect(base.folder)
    if (folder / "config.json").is_file():
        seen = _stated(folder, base, seen)
    elif said:
        seen = dataclasses.replace(seen, architecture=_class(said, seen))
    own = {f"backbone.{name}": value.shape for name, value in seen.backbone.state_dict().items()}
    grafting = seen.family.heads.get(seen.architecture, Grafting(kind=""))
    rules, prefix = [*seen.family.rules, *grafting.rules], seen.family.before(seen.architecture)
    if said is None:
        sizes = learned.find(folder, shards, own, seen.backbone.config.layers)
        others = [Match(name, (name,), Rule(name, name)) for name in learned.further(shards, sizes)]
        mixed = learned.mixed(shards)
        return Opened(
            base=base, seen=seen, shards=shards, factors=[], dropout=0.0, sizes=sizes, mixed=mixed, others=others
        )
    heads = {
        name: torch.Size(one.shapes(seen.shards.entries[one.theirs].shape))
        for one in seen.found
        for name in one.names
        if name.startswith("head.")
    }
    factors, more = peft.find(folder, said, shards, rules, own | heads, prefix)
    wanted = own.keys() | {name for rule in grafting.rules for name in rule.names}
    found = [dataclasses.replace(one, theirs=more[one.theirs]) for one in match(rules, more, wanted, prefix)[0]]
    _check_others(folder, shards, found, set(more.values()), own)
    if not (folder / "config.json").is_file():
        seen = _counted(seen, grafting, found, shards)
    return Opened(base=base, seen=seen, shards=shards, factors=factors, dropout=said.dropout, sizes={}, others=found)


def _check_others(
    folder: Path, shards: Shards, found: list[Match], names: set[str], own: Mapping[str, torch.Size]
) -> None:
    strangers = names - {one.theirs for one in found}
    if strangers:
        raise ModelError(
            f"{folder / WEIGHTS}: {len(strangers)} tensors have no place in the base, such as "
            f"{listed(sorted(strangers)[:3])}; is this an adapter of another model, or of another kind than LoRA?"
        )
    for one in found:
        shape = one.shapes(shards.entries[one.theirs].shape)
        wrong = [name for name in one.names if name in own and tuple(own[name]) != shape]
        if wrong:
            raise ModelError(
                f"{folder / WEIGHTS}: {one.theirs} has shape {list(shards.entries[one.theirs].shape)}, "
                f"the base asks for {list(own[wrong[0]])}"
            )


def _stated(folder: Path, base: Base, seen: Inspected) -> Inspected:
    """The base as the class that the adapter's own config.json names."""
    published, family, architecture, config = checkpoint.read_config(folder)
    if seen.backbone.decoder is not None and not getattr(config, "decoder_layers", 1):
        seen = _encoder(seen)
    if family.name != seen.family.name or config != seen.backbone.config:
        raise ModelError(
            f"{folder}: config.json describes another model than the base {base.reference!r}: "
            f"{family.name} of {config.parameters:,} parameters, the base is {seen.family.name} "
            f"of {seen.backbone.config.parameters:,}"
        )
    return dataclasses.replace(seen, published=published, architecture=architecture)


def _encoder(seen: Inspected) -> Inspected:
    """The base without its decoder, which heads that tag tokens do not read."""
    without: dict[str, Any] = {"decoder_layers": 0}
    seen.backbone.config, seen.backbone.decoder = dataclasses.replace(seen.backbone.config, **without), None
    found = [one for one in seen.found if not any(name.startswith("backbone.decoder.") for name in one.names)]
    return dataclasses.replace(seen, found=found)


def _class(said: Described, seen: Inspected) -> str:
    """The published class of an adapter that only says what it is for."""
    family, kind = seen.family, peft.KINDS.get(said.task or "")
    if said.published and said.published in (family.bare, family.encoder, *family.heads):
        return said.published
    own = family.heads.get(seen.architecture)
    if kind is None or kind == (own.kind if own else ""):
        return seen.architecture
    return family.architecture(kind) if kind else family.bare


def _counted(seen: Inspected, grafting: Grafting, found: list[Match], shards: Shards) -> Inspected:
    """As many labels as the head has rows; the base's names where it is of the same class and has as many."""
    rows = next((shards.entries[one.theirs].shape[:1] for one in found if "head.output.weight" in one.names), ())
    published = {**seen.published, "architectures": [seen.architecture]}
    same = seen.architecture in (seen.published.get("architectures") or ())
    if grafting.kind in ("classify", "tag") and rows and not (same and rows == (len(label_names(published)),)):
        named = ("id2label", "label2id", "problem_type")
        published = {key: value for key, value in published.items() if key not in named} | {"num_labels": rows[0]}
    return dataclasses.replace(seen, published=published)


def load(folder: Path, *, dtype: torch.dtype, check_finite: bool = False) -> tuple[Loaded, Base]:
    """Load an adapter together with its base; what learned in it has `requires_grad`, all else is frozen.

    Raises:
        ModelError: as for `look`; with `check_finite` also for NaN or infinity, naming the tensors.
    """
    opened = look(folder)
    shards = opened.shards
    if check_finite and (bad := shards.not_finite()):
        raise ModelError(f"{folder}: NaN or infinity in {len(bad)} tensors: {listed(bad[:5])}; the adapter is damaged")
    loaded = checkpoint.load(opened.base.folder, dtype=dtype, check_finite=check_finite)
    backbone = loaded.backbone.requires_grad_(False)
    backbone.config = opened.seen.backbone.config
    backbone.decoder = backbone.decoder if opened.seen.backbone.decoder is not None else None
    peft.put_in(backbone, opened.factors, shards, opened.dropout, dtype)
    learned.put_in(backbone, opened.sizes, shards, dtype)
    peft.fold_in(loaded.head, opened.factors, shards)
    given = {name: part for one in opened.others for name, part in one.parts(shards.tensor(one.theirs).to(dtype))}
    kept = {name for name in given if name.startswith("backbone.")}
    backbone.load_state_dict({name.removeprefix("backbone."): given[name] for name in kept}, strict=False, assign=True)
    learning = added(backbone)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(f"backbone.{name}" in kept or name in learning)
    same = opened.seen.architecture == loaded.architecture
    bare = loaded.family.places(loaded.family.bare)
    head = {name: tensor for name, tensor in loaded.head.items() if same or name in bare}
    head |= {name.removeprefix("head."): tensor for name, tensor in given.items() if name not in kept}
    seen = opened.seen
    return dataclasses.replace(loaded, published=seen.published, architecture=seen.architecture, head=head), opened.base


def _base(folder: Path, said: Described | None, settings: sealed.Settings) -> Base:
    """Find the base model on this machine or on the hub, and make sure that it is the same one."""
    place = folder / (CONFIG if said else sealed.NAME)
    recorded = settings.base or {}
    reference = said.reference if said else recorded.get("reference", "")
    mend = f"write its folder or its name on the hub into {'base_model_name_or_path' if said else 'base'} of {place}"
    if not reference:
        raise ModelError(f"{place}: names no base model; {mend}")
    if len(reference) > LONGEST or not reference.isprintable() or "://" in reference or reference[0] in "~-\\":
        raise ModelError(f"{place}: refuses the base model {reference!r:.100}; {mend}")
    beside = folder / reference
    try:
        if os.path.isdir(beside):
            found = hub.resolve(beside)
        else:
            path = hub.looks_like_path(reference)
            found = hub.resolve(reference, revision=said.revision if said and not path else None)
    except GraftError as error:
        raise ModelError(f"{folder}: its base model cannot be opened: {error}. Put it there, or {mend}") from error
    if holds(found):
        raise ModelError(f"{folder}: its base model {reference!r} is an adapter itself; `graft convert` merges it")
    expected = recorded.get("sha256")
    if expected and (digest := identity(found)) != expected:
        raise ModelError(
            f"{folder}: learned on a base whose weights have sha256 {expected[:16]}..., those of {reference!r} in "
            f"{found} have {digest[:16]}...: another model or another version of it. Get the right one and {mend}"
        )
    return Base(reference=reference, folder=found)
