"""Frozen features: computed once, kept on disk by content, so that a second probe on the same texts costs nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from graft.adapters import Beside
from graft.errors import StorageError
from graft.files import replacing
from graft.grafted import Model
from graft.heads import Embed, Pool
from graft.hub import home
from graft.inference import Progress, computing

LARGEST_BYTES = 2 * 2**30
"""The cache keeps the most recently used features up to this many bytes."""


def features(
    model: Model,
    sequences: Sequence[Sequence[int]],
    types: Sequence[Sequence[int] | None],
    pool: Pool,
    dtype: torch.dtype,
    progress: Progress | None = None,
    *,
    layers: bool = False,
) -> Tensor:
    """One pooled vector of hidden states for each sequence, float32 (n, D), from the cache where it holds them.

    With `layers` the vectors of all layers beside each other, what the first block reads included, each token's numbers
    normalized before they are pooled: (n, (layers + 1) D).
    """
    config = model.backbone.config
    width = config.hidden_size * (config.layers + 1 if layers else 1)
    what = f"{pool} of all layers" if layers else str(pool)
    file = home() / "features" / f"{_key(model, sequences, types, what, dtype)}.safetensors"
    cached = _read(file)
    if cached is not None and cached.shape == (len(sequences), width):
        if progress is not None:
            progress(len(sequences))
        return cached
    with computing(model, dtype), _reading(model, layers):
        found = torch.stack(model.pooled(sequences, types, Embed(pool=pool, normalize=False), progress))
    _write(file, found)
    return found


@contextmanager
def _reading(model: Model, layers: bool) -> Iterator[None]:
    """Let heads read all layers beside each other."""
    before = model.backbone.mix
    model.backbone.mix = Beside() if layers else before
    try:
        yield
    finally:
        model.backbone.mix = before


def _key(
    model: Model,
    sequences: Sequence[Sequence[int]],
    types: Sequence[Sequence[int] | None],
    what: str,
    dtype: torch.dtype,
) -> str:
    """A digest of everything the features depend on: weights, configuration, tokens, pooling, dtype."""
    digest = hashlib.sha256(f"1 {model.backbone.config} {dtype} {what}".encode())
    for tensor in model.backbone.state_dict().values():
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    for sequence, kinds in zip(sequences, types, strict=True):
        digest.update(np.asarray([len(sequence), *sequence, *(kinds or ())], dtype=np.int64).tobytes())
    return digest.hexdigest()


def _read(file: Path) -> Tensor | None:
    try:
        found = load_file(file)["features"]
        os.utime(file)
    except (OSError, SafetensorError, KeyError):
        return None
    return found


def _write(file: Path, found: Tensor) -> None:
    """Keep the features. A cache that cannot be written is no reason to fail: they are computed again next time."""
    try:
        with replacing(file) as new:
            save_file({"features": found}, new)
        _forget(file.parent)
    except (StorageError, SafetensorError, OSError):
        return


def _forget(folder: Path) -> None:
    """Remove the least recently used features beyond LARGEST_BYTES."""
    kept = 0
    for file in sorted(folder.glob("*.safetensors"), key=lambda one: -one.stat().st_mtime):
        kept += file.stat().st_size
        if kept > LARGEST_BYTES:
            file.unlink(missing_ok=True)
