"""Splitting rows so that the same text always falls on the same side, whatever else the file holds."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Sequence
from typing import Literal

from graft.errors import UsageError

Side = Literal["train", "dev", "test"]


def normal(text: str) -> str:
    r"""Bring texts that a reader would call the same to one form: NFC, case folded, white space collapsed.

    >>> normal("  Straße\n und   WEG ")
    'strasse und weg'
    """
    if not text.isascii():
        text = unicodedata.normalize("NFC", unicodedata.normalize("NFC", text).casefold())
    return " ".join(text.casefold().split())


def digest(text: str, seed: int = 0) -> bytes:
    """Give 16 bytes that stand for the normal form of a text (BLAKE2b, keyed with the seed)."""
    encoded = normal(text).encode("utf-8", "surrogatepass")
    return hashlib.blake2b(encoded, digest_size=16, key=str(seed).encode()).digest()


def side(key: str, *, dev: float = 0.1, test: float = 0.1, seed: int = 0) -> Side:
    """Say on which side a row falls, from its own text alone.

    The same text falls on the same side in every file; so duplicates stay together, and adding or reordering rows moves
    none. Raising ``dev`` moves rows out of train only.

    Args:
        key: the row's text; for rows of several texts, all of them joined.
        dev: share of the development side, between 0 and 1.
        test: share of the test side.
        seed: another seed gives another split.

    Raises:
        UsageError: shares that leave nothing to train on.
    """
    _check_shares(dev, test)
    place = int.from_bytes(digest(key, seed)[:8], "big") / 2**64
    if place < test:
        return "test"
    return "dev" if place < test + dev else "train"


def split(keys: Sequence[str], *, dev: float = 0.1, test: float = 0.1, seed: int = 0) -> dict[str, list[int]]:
    """Say which rows fall on which side.

    The sides are as large as asked for only on average: a few dozen rows may leave one of them empty.

    Args:
        keys: the text of each row.
        dev: share of the development side.
        test: share of the test side.
        seed: another seed gives another split.

    Returns:
        ``{"train": ..., "dev": ..., "test": ...}``, each a list of indices into ``keys`` in ascending order.

    Raises:
        UsageError: shares that leave nothing to train on.
    """
    _check_shares(dev, test)
    sides: dict[str, list[int]] = {"train": [], "dev": [], "test": []}
    for index, key in enumerate(keys):
        sides[side(key, dev=dev, test=test, seed=seed)].append(index)
    return sides


def _check_shares(dev: float, test: float) -> None:
    if not (0 <= dev < 1 and 0 <= test < 1 and dev + test < 1):
        raise UsageError(f"shares dev={dev} and test={test}: expected each from 0 to below 1, together below 1")
