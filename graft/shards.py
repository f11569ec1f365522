"""The weights of a model folder: safetensors, one or several shards, or HDF5; checked, then memory-mapped."""

from __future__ import annotations

import json
import math
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from graft import hdf5
from graft.errors import ModelError, listed, plain
from graft.files import read_json, unique_keys

SINGLE, INDEX = "model.safetensors", "model.safetensors.index.json"
OPTIONS, ARRAYS = "options.json", "lm_weights.hdf5"
PIECE = 2**20
"""Values looked at at a time."""

HEADER_BYTES = 10 * 2**20
"""Headers beyond 10 MiB are refused: published ones are below 1 MiB."""

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".h5", ".msgpack")
DTYPES = MappingProxyType(
    {
        "F64": torch.float64,
        "F32": torch.float32,
        "F16": torch.float16,
        "BF16": torch.bfloat16,
        "I64": torch.int64,
        "I32": torch.int32,
        "I16": torch.int16,
        "I8": torch.int8,
        "U8": torch.uint8,
        "BOOL": torch.bool,
    }
)


@dataclass(frozen=True)
class Entry:
    """Where one tensor lies."""

    file: Path
    dtype: torch.dtype
    shape: tuple[int, ...]
    begin: int
    end: int


class Shards:
    """All tensors of a folder by name; nothing is read before it is asked for.

    A tensor is a view of the file's pages, private to this process: changing it never changes the file.
    """

    def __init__(self, folder: Path, only: str = "") -> None:
        """Open a folder, or one file in it.

        Raises:
            ModelError: no safetensors files, a damaged one, or an index that leads out of the folder.
        """
        self.entries: dict[str, Entry] = {}
        self.maps: dict[Path, mmap.mmap] = {}
        files, promised = ([folder / only], []) if only else _files(folder)
        for file in files:
            for name, entry in _entries(file).items():
                if name in self.entries:
                    raise ModelError(f"{file}: tensor {name!r} is also in {self.entries[name].file.name}")
                self.entries[name] = entry
        absent = set(promised) - self.entries.keys()
        if absent:
            raise ModelError(f"{folder / INDEX}: these tensors are in none of the shards: {listed(absent)}")

    def tensor(self, name: str) -> Tensor:
        """A view of one tensor's bytes in the file."""
        entry = self.entries[name]
        size = entry.dtype.itemsize
        count = (entry.end - entry.begin) // size
        if count == 0:
            return torch.empty(entry.shape, dtype=entry.dtype)
        pages = self._map(entry.file)
        if entry.begin % size:
            raw = torch.frombuffer(pages, dtype=torch.uint8, count=count * size, offset=entry.begin).clone()
            self.release(name)
            return raw.view(entry.dtype).view(entry.shape)
        return torch.frombuffer(pages, dtype=entry.dtype, count=count, offset=entry.begin).view(entry.shape)

    def not_finite(self, names: Iterable[str] | None = None) -> list[str]:
        """Which tensors hold NaN or infinity, of these or of all; reads them whole, a piece at a time."""
        return [name for name in (self.entries if names is None else names) if not self._finite(name)]

    def _finite(self, name: str) -> bool:
        values = self.tensor(name).flatten()
        pieces = (values[start : start + PIECE] for start in range(0, len(values), PIECE))
        finite = all(bool(torch.isfinite(torch.stack(torch.aminmax(piece))).all()) for piece in pieces)
        self.release(name)
        return finite

    def release(self, name: str, until: int | None = None) -> None:
        """Give the memory of a tensor's pages back; they are read from the file again if they are needed again.

        Args:
            name: a tensor nobody has changed.
            until: only its first so many bytes.
        """
        entry = self.entries[name]
        start = entry.begin + -entry.begin % mmap.PAGESIZE
        end = entry.end if until is None else entry.begin + until
        length = (end - start) // mmap.PAGESIZE * mmap.PAGESIZE
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._map(entry.file).madvise(mmap.MADV_DONTNEED, start, length)

    def _map(self, file: Path) -> mmap.mmap:
        if file not in self.maps:
            with file.open("rb") as handle:
                self.maps[file] = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_COPY)
        return self.maps[file]


def _files(folder: Path) -> tuple[list[Path], list[str]]:
    """The shards of a folder, and the tensor names its index promises."""
    if _is_file(folder / SINGLE):
        return [folder / SINGLE], []
    if _is_file(folder / INDEX):
        return indexed(folder)
    if _is_file(folder / OPTIONS):
        return [_arrays(folder)], []
    raise ModelError(_nothing_here(folder))


def indexed(folder: Path, index: str = INDEX, suffix: str = ".safetensors") -> tuple[list[Path], list[str]]:
    """The files an index names, and the tensors it promises in them.

    Raises:
        ModelError: the index is damaged, a file is missing, or one is not of this suffix and beside the index.
    """
    placed = read_json(folder / index).get("weight_map")
    if not isinstance(placed, dict) or not all(isinstance(name, str) for name in placed.values()):
        raise ModelError(f"{folder / index}: 'weight_map' must be an object of tensor name to file name")
    names = sorted(set(placed.values()))
    for name in names:
        if not name.isprintable() or any(sign in name for sign in '/\\:"') or not name.endswith(suffix):
            raise ModelError(
                f"{folder / index}: refuses the file name {name!r}: shards lie beside the index, *{suffix}"
            )
        if not _is_file(folder / name):
            raise ModelError(f"{folder / index}: the shard {name!r} is missing; fetch it again")
    return [folder / name for name in names], list(placed)


def _arrays(folder: Path) -> Path:
    """The HDF5 file beside an options.json: under its usual name, or the only one."""
    found = sorted(path for path in folder.glob("*.hdf5") if _is_file(path))
    if _is_file(folder / ARRAYS) or len(found) == 1:
        return folder / ARRAYS if _is_file(folder / ARRAYS) else found[0]
    names = listed(path.name for path in found[:5]) or "none"
    raise ModelError(f"{folder}: {OPTIONS} wants weights in {ARRAYS}, or a single *.hdf5; found: {names}")


def _is_file(path: Path) -> bool:
    """Whether a file can be read there, also by way of a link, as the hub's cache has them."""
    try:
        return path.is_file()
    except OSError as error:
        raise ModelError(f"{path.parent}: {path.name:.80}: cannot be read: {error.strerror}") from error


def _nothing_here(folder: Path) -> str:
    if not folder.is_dir():
        return f"{folder}: no such folder"
    pickles = sorted(path.name for path in folder.iterdir() if path.suffix in PICKLES)
    if pickles:
        return (
            f"{folder}: found only {', '.join(pickles)}; Graft reads safetensors and JSON, because such files can run "
            f"code when opened. Take a revision with {SINGLE}, or see `graft convert --help`"
        )
    return f"{folder}: no {SINGLE} and no {INDEX}; is this a model folder?"


def _entries(file: Path) -> dict[str, Entry]:
    """Check one file with the reference reader, then take the places of its tensors from the header."""
    if file.suffix == ".hdf5":
        return dict(_places(file, hdf5.header(file), 0))
    try:
        with file.open("rb") as handle:
            size = int.from_bytes(handle.read(8), "little")
            if size > HEADER_BYTES:
                raise ModelError(f"{file}: a header of {size} bytes, expected at most {HEADER_BYTES}")
            with safe_open(file, framework="pt") as opened:
                known = set(opened.keys())
            header = json.loads(handle.read(size), object_pairs_hook=unique_keys)
    except OSError as error:
        raise ModelError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (SafetensorError, ValueError, RecursionError) as error:
        raise ModelError(f"{file}: not a valid safetensors file (damaged or cut short?): {plain(error)}") from error
    entries = dict(_places(file, header, 8 + size))
    if set(entries) != known:  # pragma: no cover - only another version of safetensors could read it otherwise
        raise ModelError(f"{file}: its header is read differently by different readers; refused")
    return entries


def _places(file: Path, header: dict[str, dict[str, Any]], start: int) -> Iterator[tuple[str, Entry]]:
    length = file.stat().st_size
    for name, place in header.items():
        if name == "__metadata__":
            continue
        dtype = DTYPES.get(str(place["dtype"]))
        if dtype is None:
            raise ModelError(f"{file}: tensor {name!r} has dtype {place['dtype']}; valid: {', '.join(DTYPES)}")
        shape: tuple[int, ...] = tuple(place["shape"])
        begin, end = (start + offset for offset in place["data_offsets"])
        fits = math.prod(shape) * dtype.itemsize == end - begin and start <= begin <= end <= length
        if not fits:  # pragma: no cover - only other versions of the libraries, which look at this too, let it pass
            raise ModelError(f"{file}: tensor {name!r} of shape {list(shape)} does not fit its place in the file")
        yield name, Entry(file, dtype, shape, begin, end)
