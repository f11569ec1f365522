"""What makes a folder of files a model: a configuration and weights that are safe to read."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from pathlib import Path

from graft.errors import HubError
from graft.files import read_json

CONFIGS = ("config.json", "adapter_config.json", "options.json")
SINGLE, INDEX, ADAPTER = "model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors"
LEARNED = "learned.safetensors"
UNSAFE = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack", ".onnx", ".gguf")
TEXT = (".json", ".txt", ".model", ".jinja")
SHARD = re.compile(r'[^/\\:"]+\.safetensors')
MODULE = re.compile(r"\d+_[A-Za-z]+/[^/]+")
"""A file of a sentence-transformers module, such as 1_Pooling/config.json."""


LICENCE = re.compile(r"^license:[ \t]*['\"]?([A-Za-z0-9.+_-]{1,60})", re.MULTILINE)
FRONT_MATTER = 2**16


def small_files(names: Iterable[str]) -> list[str]:
    """Of a repository's files, the configuration, tokenizer and model card: everything Graft reads but the weights."""
    return sorted(name for name in names if _is_small(name))


def _is_small(name: str) -> bool:
    if "/" in name and not MODULE.fullmatch(name):
        return False
    if name.endswith(".index.json"):
        return name == INDEX
    return name.endswith(TEXT) or name == "README.md" or name.startswith("LICENSE")


def weight_files(names: Collection[str], folder: Path) -> list[str]:
    """Of a repository's files, the weights Graft reads, each tensor once.

    Args:
        names: all files of the repository.
        folder: where its small files already lie; the index of a sharded model is read there.

    Raises:
        ModelError: the index is damaged.
        HubError: the index names a file it may not name.
    """
    weights = {
        name for name in names if name in (ADAPTER, LEARNED) or MODULE.fullmatch(name) and name.endswith(".safetensors")
    }
    if SINGLE in names:
        weights.add(SINGLE)
    elif INDEX in names:
        weights.update(shards(folder))
    elif "options.json" in names:
        weights.update(name for name in names if "/" not in name and name.endswith(".hdf5"))
    return sorted(weights)


def shards(folder: Path) -> list[str]:
    """File names listed in the index of a sharded model.

    Raises:
        ModelError: the index is damaged.
        HubError: a name leads out of the folder or is no safetensors file.
    """
    placed = read_json(folder / INDEX).get("weight_map")
    names = placed.values() if isinstance(placed, dict) else [None]
    for name in names:
        if not isinstance(name, str) or not SHARD.fullmatch(name) or not name.isprintable():
            raise HubError(
                f"{folder / INDEX}: refuses {name!r}: expected names of *.safetensors files beside the index"
            )
    return sorted(set(names))


def without_weights(names: Collection[str]) -> str | None:
    """Say what is wrong with a listing of files that holds no weights Graft reads; None if it holds some."""
    if (
        {SINGLE, INDEX, ADAPTER, LEARNED} & set(names)
        or "options.json" in names
        and any(n.endswith(".hdf5") for n in names)
    ):
        return None
    unsafe = sorted(name for name in names if name.endswith(UNSAFE) and "/" not in name)
    if unsafe:
        return (
            f"the only weights here are {', '.join(unsafe)}. Graft reads safetensors alone, because the other formats "
            f"can run code when opened or hold other layouts. Look for a revision that has {SINGLE}; "
            "`graft convert --help` says how pickled weights of a model you trust become safetensors"
        )
    return f"no weights: expected {SINGLE}, or {INDEX} with its shards, or {ADAPTER}"


def problem(folder: Path) -> str | None:
    """Say what a folder lacks to be a model; None if it has a configuration and all its weights.

    Raises:
        ModelError: the index of a sharded model is damaged.
        HubError: that index leads out of the folder.
    """
    names = {path.name for path in folder.iterdir() if path.is_file()}
    if not names & set(CONFIGS):
        return f"no configuration: expected one of {', '.join(CONFIGS)}; is this a model folder?"
    lacking = without_weights(names)
    if lacking or SINGLE in names or INDEX not in names:
        return lacking
    absent = sorted(set(shards(folder)) - names)
    return f"these shards of the model are missing: {', '.join(absent)}" if absent else None


def files(folder: Path) -> list[Path]:
    """Every file of a folder, relative to it."""
    return sorted(path.relative_to(folder) for path in folder.rglob("*") if path.is_file())


def size(folder: Path) -> int:
    """Bytes of all files of a folder, links followed."""
    return sum((folder / path).stat().st_size for path in files(folder))


def licence(folder: Path) -> str | None:
    """The licence that the front matter of a folder's model card states; None where it states none."""
    path = folder / "README.md"
    if not path.is_file():
        return None
    with path.open(encoding="utf-8", errors="replace") as file:
        text = file.read(FRONT_MATTER)
    front = text[4:].split("\n---", 1)[0] if text.startswith("---\n") else ""
    stated = LICENCE.search(front)
    return stated[1] if stated else None
