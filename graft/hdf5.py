"""HDF5 files of plain arrays, as ELMo's weights are published: where each array lies, and writing such a file."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from graft.errors import ModelError, StorageError

DEPTH, DATASETS = 8, 4096
"""Groups within groups and links in all: published files have 5 and some 40. Hard links can form circles."""


def header(file: Path) -> dict[str, dict[str, Any]]:
    """Where each dataset lies, in the form of a safetensors header; no value is read and nothing allocated.

    Only floating-point numbers in one piece, inside this very file: no links that lead out of it, no objects, nothing
    compressed (a small file could then claim any size).

    Raises:
        ModelError: damaged, or something else; h5py is not installed.
    """
    h5py = _library()
    try:
        with h5py.File(file, "r", locking=False) as opened:
            found = {name: _place(h5py, name, one) for name, one in _datasets(h5py, opened, "", [0])}
    except ModelError as error:
        raise ModelError(f"{file}: {error}") from error
    except (OSError, RuntimeError, ValueError, TypeError, LookupError, OverflowError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise ModelError(f"{file}: not a valid HDF5 file (damaged or cut short?): {reason:.200}") from error
    claimed = sum(place["data_offsets"][1] - place["data_offsets"][0] for place in found.values())
    if claimed > file.stat().st_size:
        raise ModelError(f"{file}: its datasets claim {claimed} bytes, the file has {file.stat().st_size}; refused")
    return found


def write(file: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors as float32 datasets; a name with slashes lies in groups.

    Raises:
        StorageError: the disk is full, or the place cannot be written.
        ModelError: h5py is not installed.
    """
    h5py = _library()
    try:
        with h5py.File(file, "w") as opened:
            for name, tensor in tensors.items():
                opened.create_dataset(name, data=tensor.float().numpy())
    except (OSError, RuntimeError) as error:
        raise StorageError(f"{file}: the weights could not be written: {error}") from error


def _library() -> Any:
    try:
        import h5py
    except ImportError as error:
        raise ModelError("weights in HDF5 need the library h5py: pip install 'graft-nlp[elmo]'") from error
    return h5py


def _datasets(h5py: Any, group: Any, path: str, seen: list[int]) -> Iterator[tuple[str, Any]]:
    """Every dataset below a group, by its path."""
    for name in group:
        place, seen[0] = f"{path}{name}", seen[0] + 1
        if seen[0] > DATASETS or place.count("/") > DEPTH:
            raise ModelError(f"more than {DATASETS} links, or groups deeper than {DEPTH} ({place[:100]!r}); refused")
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise ModelError(f"dataset {place[:200]!r} is a link to another place, expected values of its own")
        found = group[name]
        if isinstance(found, h5py.Group):
            yield from _datasets(h5py, found, f"{place}/", seen)
        elif isinstance(found, h5py.Dataset):
            yield place, found
        else:
            raise ModelError(f"{place[:200]!r} is neither a group nor a dataset")


def _place(h5py: Any, name: str, dataset: Any) -> dict[str, Any]:
    """Type, shape and first and last byte of a dataset."""
    kinds = {"F64": h5py.h5t.IEEE_F64LE, "F32": h5py.h5t.IEEE_F32LE, "F16": h5py.h5t.IEEE_F16LE}
    stored, layout = dataset.id.get_type(), dataset.id.get_create_plist()
    kind = next((ours for ours, theirs in kinds.items() if stored.equal(theirs)), None)
    if kind is None:
        raise ModelError(
            f"dataset {name[:200]!r} holds {str(dataset.dtype):.60}, expected little-endian floating-point numbers"
        )
    if layout.get_layout() != h5py.h5d.CONTIGUOUS or layout.get_external_count() or dataset.shape is None:
        raise ModelError(
            f"dataset {name[:200]!r} is not stored in one piece in this file; `h5repack -f NONE -l CONTI` makes it so"
        )
    size, begin = math.prod(dataset.shape) * stored.get_size(), dataset.id.get_offset()
    if begin is None:
        raise ModelError(f"dataset {name[:200]!r} of shape {list(dataset.shape)} has no values in the file")
    return {"dtype": kind, "shape": list(dataset.shape), "data_offsets": [begin, begin + size]}
