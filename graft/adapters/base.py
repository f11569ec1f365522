"""The model whose frozen weights an adapter needs."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from graft.hub.checksum import sha256
from graft.shards import Shards


@dataclass(frozen=True, kw_only=True)
class Base:
    """Where the full weights of a model lie.

    Attributes:
        reference: what leads there from anywhere: a name on the hub, or a folder.
        folder: on this machine.
    """

    reference: str
    folder: Path


def identity(folder: Path) -> str:
    """SHA-256 of a model's weights: of its one file, or of the digests of its shards, by name, a line each."""
    files = sorted({entry.file for entry in Shards(folder).entries.values()})
    digests = [sha256(file) for file in files]
    return digests[0] if len(digests) == 1 else hashlib.sha256("\n".join(digests).encode()).hexdigest()
