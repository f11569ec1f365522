"""Grafts that come with the package: adapters and heads for the default encoder, by name, without a network.

They are trained by scripts/train-grafts; each folder's README.md says on what, how good they are, and their limits.
"""

from __future__ import annotations

from pathlib import Path

FOLDER = Path(__file__).resolve().parent.parent / "grafts"


def names() -> list[str]:
    """The grafts there are."""
    return sorted(path.parent.name for path in FOLDER.glob("*/graft.json"))


def find(name: str) -> Path | None:
    """The folder of the graft of that name."""
    return FOLDER / name if name in names() else None
