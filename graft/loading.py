"""Loading a model: its folder found, its weights read, its published head grafted on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from graft import adapters, checkpoint, families, heads, hub, int8, pooling, sealed
from graft.adapters import Base
from graft.errors import ModelError
from graft.grafted import Model
from graft.heads import Head
from graft.inference import choose_device
from graft.sealed import Settings

ROUNDED = "int8"
"""The dtype that is none to compute in: weights in eight bits."""


def load(
    ref: str | Path,
    dtype: str | torch.dtype = "auto",
    *,
    revision: str | None = None,
    device: str = "auto",
    verify: bool = False,
    check_finite: bool = False,
) -> Model:
    """Load a model.

    Args:
        ref: a folder, or a name on the hub such as "sentence-transformers/all-MiniLM-L6-v2". An adapter (LoRA as the
            library peft or Graft writes it, or Graft's own) is put on the base model it names.
        dtype: "float32", "bfloat16", "float16", or "auto": bfloat16 where the processor computes in it. "int8" is auto
            with the weights of linear layers rounded to eight bits (`graft.int8`): it runs, and neither learns nor is
            saved.
        revision: branch, tag or commit on the hub.
        device: "cpu", "cuda", or "auto": a GPU where there is one.
        verify: replay the golden inputs of a folder Graft saved.
        check_finite: read every weight now, and refuse NaN and infinity, naming the tensors.

    Raises:
        HubError: the reference leads nowhere.
        ModelError: the folder is damaged or unsupported, or its golden inputs answer differently.
        UsageError: an unknown dtype or device.
    """
    folder = hub.resolve(ref, revision=revision)
    model = _assembled(folder, ref, checkpoint.choose_dtype("auto" if dtype == ROUNDED else dtype), check_finite)
    model.eval()
    model.to(choose_device(device))
    if dtype == ROUNDED:
        int8.swap(model)
    if verify:
        model.verify()
    return model


def _assembled(folder: Path, ref: str | Path, dtype: torch.dtype, check_finite: bool) -> Model:
    """What lies in a folder, and in the one that it names as its base."""
    if adapters.holds(folder):
        loaded, base = adapters.load(folder, dtype=dtype, check_finite=check_finite)
    else:
        loaded = checkpoint.load(folder, dtype=dtype, check_finite=check_finite)
        path = hub.looks_like_path(ref)
        base = Base(reference=str(folder.absolute()) if path else str(ref).removeprefix("hf://"), folder=folder)
    head, spare = _head(folder, base.folder, loaded)
    return Model(
        loaded.backbone,
        head,
        family=loaded.family,
        published=loaded.published,
        folder=folder,
        settings=_settings(folder, base.folder),
        spare=spare,
        base=base,
    )


def fresh(folder: Path) -> Model:
    """A model with fresh weights, from the current random state, for a folder that need hold a configuration alone.

    What the published class keeps beside its head without using it, such as the pooler of BertForPreTraining, is not
    made. Whether a T5's output matrix is the token embedding, only its configuration can say here.

    Raises:
        ModelError: no configuration, an unknown architecture, or values that make no sense.
    """
    published, family, architecture, config = checkpoint.read_config(folder)
    backbone, head, own = family.backbone(config), None, family.fresh(config)
    heads.initialize(backbone, "backbone", config, own)
    if (grafting := family.heads.get(architecture)) is not None:
        options = grafting.options(published)
        if grafting.kind == "next":
            options.setdefault("tied", families.tied(published, True))
        head = heads.make(grafting.kind, options, backbone.token_embedding)
        heads.initialize(head, head.kind, config, own, head.aliases().values())
    return Model(backbone, head, family=family, published=published, folder=folder, settings=Settings()).eval()


def _head(folder: Path, base: Path, loaded: checkpoint.Loaded) -> tuple[Head | None, dict[str, Tensor]]:
    """The published head with its weights, and the tensors left over."""
    grafting = loaded.family.heads.get(loaded.architecture)
    if grafting is None:
        return pooling.read(folder) or pooling.read(base), loaded.head
    options = grafting.options(loaded.published)
    embedding = loaded.backbone.token_embedding
    if grafting.kind == "next" and "tied" not in options:  # T5's config.json does not tell
        options["tied"] = _same(loaded.head, embedding)
    try:
        with torch.device("meta"):  # its weights are in the file
            head = heads.make(grafting.kind, options, embedding)
    except ModelError as error:
        raise ModelError(f"{folder / 'config.json'}: {error}") from error
    own, given = head.own(), loaded.head
    heads.check_shapes(folder, own, given, [f"{name} is missing" for name in own if name not in given])
    head.load_state_dict({name: given[name] for name in own}, assign=True, strict=False)
    repeated = head.aliases()
    for name in repeated.keys() & given.keys():
        if not torch.equal(given[name], repeated[name]):
            tied = "the output matrix to the token embedding" if name == "output.weight" else "the two output biases"
            raise ModelError(f"{folder}: config.json ties {tied}, the file has another")
    return head.eval(), {name: tensor for name, tensor in given.items() if name not in own and name not in repeated}


def _same(given: Mapping[str, Tensor], embedding: nn.Embedding) -> bool:
    return all(torch.equal(tensor, embedding.weight) for tensor in given.values())


def _settings(folder: Path, base: Path) -> Settings:
    settings = sealed.read(folder)
    limit = settings.limit or pooling.limit(folder) or pooling.limit(base)
    return dataclasses.replace(settings, limit=limit)
