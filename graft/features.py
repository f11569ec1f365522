"""Frozen features: computed once, kept on disk by content, so that a second probe on the same texts costs nothing."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

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
) -> Tensor:
    """One pooled vector of last hidden states for each sequence, float32 (n, D), from the cache where it holds them."""
    file = home() / "features" / f"{_key(model, sequences, types, pool, dtype)}.safetensors"
    cached = _read(file)
    if cached is not None and cached.shape == (len(sequences), model.backbone.config.hidden_size):
        if progress is not None:
            progress(len(sequences))
        return cached
    with computing(model, dtype):
        found = torch.stack(model.pooled(sequences, types, Embed(pool=pool, normalize=False), progress))
    _write(file, found)
    return found


def _key(
    model: Model,
    sequences: Sequence[Sequence[int]],
    types: Sequence[Sequence[int] | None],
    pool: Pool,
    dtype: torch.dtype,
) -> str:
    """A digest of everything the features depend on: weights, configuration, tokens, pooling, dtype."""
    digest = hashlib.sha256(f"1 {model.backbone.config} {dtype} {pool}".encode())
    for tensor in model.backbone.state_dict().values():
        digest.update(tensor.detach().cpu().contiguous().view(torch.uint8).numpy())
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
