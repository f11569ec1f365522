"""Saving what was learned, without the base."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError
from safetensors.torch import save_file

from graft import checkpoint
from graft.adapters import peft_files
from graft.adapters.base import Base, identity
from graft.adapters.layers import LowRank, Wrapped
from graft.adapters.learned import LEARNED
from graft.adapters.peft import CONFIG, WEIGHTS
from graft.adapters.wrapping import added, present
from graft.errors import StorageError
from graft.families import Family
from graft.files import write_json
from graft.heads import Head
from graft.model.transformer import Transformer
from graft.weights import homes


def save(
    folder: Path,
    *,
    family: Family,
    architecture: str,
    published: Mapping[str, Any],
    backbone: Transformer,
    head: Head | None,
    base: Base,
) -> dict[str, str]:
    """Write config.json and what was learned, in the dtype it has; gives the base's entry of graft.json.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
        ModelError: the family cannot hold these layers.
    """
    whole = {f"backbone.{name}": value.detach().cpu() for name, value in backbone.state_dict().items()}
    new = {f"backbone.{name}" for name in added(backbone)}
    kept = {f"backbone.{name}" for name, p in backbone.named_parameters() if p.requires_grad} - new
    own = {f"head.{name}": value.detach().cpu() for name, value in (head.own() if head else {}).items()}
    layers = {f"backbone.{name}": one for name, one in backbone.named_modules() if isinstance(one, LowRank)}
    record = {"reference": base.reference, "sha256": identity(base.folder)}
    if layers:
        ours = {name: value for name, value in whole.items() if name not in new} | own
        kind = head.kind if head else ""
        said, tensors = peft_files.files(family, architecture, kind, layers, ours, kept | own.keys())
        write_json(folder / CONFIG, {"base_model_name_or_path": base.reference, **said})
    else:
        tensors = {name: whole[name] for name in kept | new} | own
    try:
        held = {name: tensor.contiguous().clone() for name, tensor in tensors.items()}
        save_file(held, folder / (WEIGHTS if layers else LEARNED), metadata={"format": "pt"})
    except SafetensorError as error:
        raise StorageError(f"{folder}: what was learned could not be written: {error}") from error
    options = head.options() if head else {}
    dtype = next(iter(tensors.values())).dtype
    write_json(
        folder / "config.json", checkpoint.record(family, backbone.config, architecture, published, options, dtype)
    )
    shutil.copymode(folder / "config.json", folder / (WEIGHTS if layers else LEARNED))
    return record


def library(backbone: Transformer, family: Family) -> Literal["", "peft", "transformers"]:
    """The library besides Graft that opens what `save` writes; "" where there is none."""
    if not present(backbone):
        return "transformers"
    layers = [name for name, one in backbone.named_modules() if isinstance(one, Wrapped)]
    lora = backbone.mix is None and all(isinstance(backbone.get_submodule(name), LowRank) for name in layers)
    places = homes(family.rules, [f"backbone.{name}.weight" for name in layers])
    return "peft" if lora and not any(place and place.folded for place in places.values()) else ""
