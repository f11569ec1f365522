"""Model folders: a configuration and weights in, a backbone out, and the way back."""

from __future__ import annotations

import math
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from graft import families, hdf5
from graft.errors import ModelError, StorageError, UsageError, listed, nearest
from graft.families import Family, Grafting
from graft.files import read_json, write_json
from graft.model.config import Config
from graft.model.transformer import Transformer
from graft.shards import ARRAYS, INDEX, OPTIONS, SINGLE, Shards
from graft.weights import Match, match, write

CHUNK = 2**20
"""Values converted at a time, so that a large tensor never stands twice in memory."""

CONFIG_BYTES = 16 * 2**20
"""Larger configurations are refused before they are read; one with 20,000 labels has 1 MiB."""

SHARD_BYTES = 5 * 10**9
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
KEPT = (
    *(f"{role}_token_id" for role in ("pad", "bos", "eos", "cls", "sep", "unk", "mask", "decoder_start")),
    *("tie_word_embeddings", "scale_decoder_outputs", "classifier_dropout", "summary_last_dropout"),
    *("mem_len", "reuse_len"),
)
"""Entries of a published configuration handed on as they are. Nothing else is copied from an untrusted file."""


@dataclass(frozen=True, kw_only=True)
class Loaded:
    """What a model folder holds.

    Attributes:
        published: its config.json.
        family: the family its model_type names.
        architecture: the published class it was saved from.
        backbone: the backbone, in evaluation mode, all weights set.
        head: tensors beyond the backbone, by our name without ``head.``.
    """

    published: dict[str, Any]
    family: Family
    architecture: str
    backbone: Transformer
    head: dict[str, Tensor]


def choose_dtype(name: str | torch.dtype) -> torch.dtype:
    """The dtype a name stands for; "auto" is bfloat16 where the processor computes in it, float32 elsewhere.

    Raises:
        UsageError: there is no such dtype.
    """
    if isinstance(name, torch.dtype):
        name = str(name).removeprefix("torch.")
    if name == "auto":
        return torch.bfloat16 if _has_bfloat16() else torch.float32
    if name not in DTYPES:
        raise UsageError(f"unknown dtype {name!r}: {nearest(name, [*DTYPES, 'auto'])}")
    return DTYPES[name]


def _has_bfloat16() -> bool:
    if torch.cuda.is_available():  # pragma: no cover - needs a GPU
        return bool(torch.cuda.is_bf16_supported())
    probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported", "_is_arm_bf16_supported")
    return any(getattr(torch.cpu, probe)() for probe in probes if hasattr(torch.cpu, probe))


def read_config(folder: Path) -> tuple[dict[str, Any], Family, str, Config]:
    """Read a folder's config.json, or ELMo's options.json, without its weights.

    Returns:
        The published configuration, its family, the published class, and our configuration.

    Raises:
        ModelError: no config.json, an unknown architecture, or values that make no sense.
    """
    path = folder / "config.json"
    if not folder.is_dir():
        raise ModelError(f"{folder}: no such folder")
    if not path.is_file() and (folder / OPTIONS).is_file():
        path = folder / OPTIONS
    published = read_json(path, CONFIG_BYTES)
    try:
        family = families.find("elmo" if path.name == OPTIONS else published.get("model_type"))
        architecture = _architecture(family, published)
        config = family.config(published)
        if architecture in family.heads:
            family.heads[architecture].options(published)
        return published, family, architecture, config
    except ModelError as error:
        raise ModelError(f"{path}: {error}") from error
    except (TypeError, ValueError, AttributeError, OverflowError) as error:
        raise ModelError(f"{path}: a value has the wrong type: {error}") from error


def _architecture(family: Family, published: Mapping[str, Any]) -> str:
    named = published.get("architectures") or [family.bare]
    valid = [family.bare, *filter(None, [family.encoder]), *family.heads]
    if not isinstance(named, list) or named[0] not in valid:
        found = named[0] if isinstance(named, list) else named
        raise ModelError(f"the class {found!r:.60} is not one Graft loads: {nearest(str(found)[:60], valid)}")
    return str(named[0])


@dataclass(frozen=True, kw_only=True)
class Inspected:
    """What the configuration and the headers of a model folder say; no weight has been read.

    Attributes:
        published: its config.json.
        family: the family its model_type names.
        architecture: the published class it was saved from.
        backbone: the backbone, without weights.
        shards: the tensors by their published names.
        found: which of ours each of them is.
    """

    published: dict[str, Any]
    family: Family
    architecture: str
    backbone: Transformer
    shards: Shards
    found: list[Match]


def inspect(folder: Path) -> Inspected:
    """Compare a folder's configuration with the headers of its weights.

    Raises:
        ModelError: the folder is damaged, unsupported, or its weights and configuration disagree; everything that does
            not fit is named at once.
    """
    published, family, architecture, config = read_config(folder)
    shards = Shards(folder)
    _believable(folder, config, shards)
    with torch.device("meta"), _Undrawn():
        backbone = family.backbone(config)
    grafting = family.heads.get(architecture, Grafting(kind=""))
    own = {f"backbone.{name}": value.shape for name, value in backbone.state_dict().items()}
    wanted = {name for rule in grafting.rules if not rule.optional for name in rule.names}
    rules = [*family.rules, *grafting.rules]
    found, faults = match(rules, shards.entries, own.keys() | wanted, family.before(architecture))
    faults += _misshaped(shards, found, own)
    if faults:
        raise ModelError(f"{folder}: the weights do not fit the configuration: " + "; ".join(faults))
    return Inspected(
        published=published, family=family, architecture=architecture, backbone=backbone, shards=shards, found=found
    )


def load(folder: Path, *, dtype: torch.dtype, check_finite: bool = False) -> Loaded:
    """Load a model folder.

    Weights of this dtype stay views of the file (private pages, read when first used); others are converted piece by
    piece, so that memory peaks at little more than the result. Either keeps the layout of the file: a matrix that is
    stored transposed, or with others, is a view with other strides, which matrix products read as fast.

    Raises:
        ModelError: as for `inspect`; with `check_finite` also for NaN or infinity, naming the tensors.
    """
    seen = inspect(folder)
    if check_finite and (bad := seen.shards.not_finite(one.theirs for one in seen.found)):
        raise ModelError(f"{folder}: NaN or infinity in {len(bad)} tensors: {listed(bad[:5])}; the weights are damaged")
    parts: dict[str, dict[str, Tensor]] = {"backbone": {}, "head": {}}
    for one in seen.found:
        for name, tensor in one.parts(_stored(seen.shards, one.theirs, dtype)):
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
    seen.backbone.load_state_dict(parts["backbone"], assign=True)
    seen.backbone.eval()
    return Loaded(
        published=seen.published,
        family=seen.family,
        architecture=seen.architecture,
        backbone=seen.backbone,
        head=parts["head"],
    )


class _Undrawn(TorchFunctionMode):
    """No random numbers for weights that will be replaced: on the meta device torch would import its compiler first."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        return given["tensor"] if func is nn.init.normal_ else func(*args, **given)


def _believable(folder: Path, config: Config, shards: Shards) -> None:
    """Compare the configuration with what the files hold, before anything is built from it."""
    stored = sum((entry.end - entry.begin) // entry.dtype.itemsize for entry in shards.entries.values())
    experts = config.experts.count if config.experts else 1
    parts = config.layers * experts - len(config.dense_layers) * (experts - 1)
    if parts > len(shards.entries) or config.parameters > 4 * stored + 10**6:
        raise ModelError(
            f"{folder}: the configuration describes {config.parameters:,} parameters in {config.layers} layers, "
            f"the weights hold {stored:,} in {len(shards.entries)} tensors; one of the two belongs to another model"
        )


def _misshaped(shards: Shards, found: list[Match], own: Mapping[str, torch.Size]) -> list[str]:
    faults = []
    for one in found:
        entry = shards.entries[one.theirs]
        shape = one.shapes(entry.shape)
        wrong = next((own[name] for name in one.names if name in own and tuple(own[name]) != shape), None)
        if wrong is None and one.folded and tuple(entry.shape[1:]) != tuple(own[one.folded]):
            wrong = torch.Size((entry.shape[0], *own[one.folded]))
        if wrong is not None:
            faults.append(f"{one.theirs} has shape {list(entry.shape)}, the configuration asks for {list(wrong)}")
        if not entry.dtype.is_floating_point:
            faults.append(f"{one.theirs} holds {entry.dtype}, expected floating-point numbers")
    return faults


def _stored(shards: Shards, name: str, dtype: torch.dtype) -> Tensor:
    """A tensor as it lies in the file: the file's own pages where the dtype fits, else converted piece by piece."""
    stored = shards.tensor(name)
    if stored.dtype == dtype:
        return stored
    converted = torch.empty(stored.shape, dtype=dtype)
    source, target, size = stored.view(-1), converted.view(-1), stored.dtype.itemsize
    for start in range(0, len(source), CHUNK):
        target[start : start + CHUNK] = source[start : start + CHUNK]
        shards.release(name, min(start + CHUNK, len(source)) * size)
    return converted


def save(
    folder: Path,
    *,
    family: Family,
    config: Config,
    architecture: str,
    published: Mapping[str, Any],
    backbone: nn.Module,
    head: Mapping[str, Tensor],
    options: Mapping[str, Any],
    shard_bytes: int = SHARD_BYTES,
) -> None:
    """Write config.json and the weights as a Hugging Face folder, in the dtype they have; ELMo's in its own files.

    Args:
        folder: an existing folder; the caller makes the writing all-or-nothing (`graft.files.replacing`).
        family: the family.
        config: our configuration.
        architecture: the published class to save as.
        published: the configuration the model came with; its token ids and the like are handed on.
        backbone: the backbone.
        head: tensors of the head, by our names without ``head.``.
        options: what the head publishes in config.json (label names and so on).
        shard_bytes: a larger file is split.

    Raises:
        StorageError: the disk is full, or the folder cannot be written.
        ModelError: the family cannot hold these tensors.
    """
    ours = {f"backbone.{name}": value for name, value in backbone.state_dict().items()}
    ours |= {f"head.{name}": value for name, value in head.items()}
    tensors = {name: value.detach().cpu() for name, value in write(family.table(architecture), ours).items()}
    if family.file == OPTIONS:
        hdf5.write(folder / ARRAYS, tensors)
        write_json(folder / OPTIONS, family.publish(config))
        return
    dtype = next(iter(tensors.values())).dtype
    try:
        _save_tensors(folder, tensors, shard_bytes)
        write_json(folder / "config.json", record(family, config, architecture, published, options, dtype))
        for file in folder.glob("*.safetensors"):
            shutil.copymode(folder / "config.json", file)  # safetensors writes files only their owner may read
    except SafetensorError as error:
        raise StorageError(f"{folder}: the weights could not be written: {error}") from error


def record(
    family: Family,
    config: Config,
    architecture: str,
    published: Mapping[str, Any],
    options: Mapping[str, Any],
    dtype: torch.dtype,
) -> dict[str, Any]:
    """The content of config.json; the arguments are those of `save`."""
    entries = family.heads[architecture].publish(options) if architecture in family.heads else {}
    kept = {key: published[key] for key in KEPT if key in published and _plain(published[key])}
    stored = str(dtype).removeprefix("torch.")
    return {"architectures": [architecture], **family.publish(config), **kept, **entries, "dtype": stored}


def _plain(value: object) -> bool:
    """A token id, a list of them, a rate, a yes or no, or nothing."""
    if isinstance(value, float):
        return math.isfinite(value)
    return value is None or isinstance(value, int) or isinstance(value, list) and all(map(_plain, value))


def _save_tensors(folder: Path, tensors: dict[str, Tensor], shard_bytes: int) -> None:
    shards: list[dict[str, Tensor]] = [{}]
    held = 0
    for name, tensor in tensors.items():
        if shards[-1] and held + tensor.nbytes > shard_bytes:
            shards.append({})
            held = 0
        shards[-1][name] = tensor
        held += tensor.nbytes
    if len(shards) == 1:
        save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
        return
    places: dict[str, str] = {}
    for number, shard in enumerate(shards, 1):
        file = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(shard, folder / file, metadata={"format": "pt"})
        places |= dict.fromkeys(shard, file)
    total = sum(tensor.nbytes for tensor in tensors.values())
    write_json(folder / INDEX, {"metadata": {"total_size": total}, "weight_map": places})
