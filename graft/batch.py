"""Packed batches: sequences laid end to end, with no padding and therefore no mask.

The legend of shape letters, used as suffixes of tensor names everywhere in Graft:

    T  tokens in the batch            H  attention heads        V  vocabulary
    S  tokens attended to             K  size of one head       E  experts
    B  sequences in the batch         D  hidden size            C  labels
    L  longest sequence in the batch  F  feed-forward size      M  slots of a cache, in tokens
    W  characters of a word           P  projection size        G  gates of an LSTM, 4 F
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from graft.errors import DataError


@dataclass(frozen=True, eq=False)
class Packed:
    """Sequences laid end to end. There is no padding and therefore no mask.

    Attributes:
        ids_T: token ids of all sequences, one after the other, int64; (T, W) in families that read characters.
        lengths_B: length of each sequence in tokens, int64; every one at least 1.
        types_T: token type (segment) of each token, where the family has them.
        start_B: tokens of each sequence that a cache already holds; None means none.
        slots: where in a cache each sequence lies; None means sequence b lies in slot b.
    """

    ids_T: Tensor
    lengths_B: Tensor
    types_T: Tensor | None = None
    start_B: Tensor | None = None
    slots: Sequence[int] | None = None

    @cached_property
    def lengths(self) -> tuple[int, ...]:
        """Lengths as numbers on the host. `pack` knows them already; otherwise this copies from the device once."""
        return tuple(self.lengths_B.tolist())

    @cached_property
    def starts(self) -> tuple[int, ...]:
        """Tokens of each sequence that a cache already holds, as numbers on the host."""
        return (0,) * len(self.lengths) if self.start_B is None else tuple(self.start_B.tolist())

    @cached_property
    def longest(self) -> int:
        """L, the length of the longest sequence."""
        return max(self.lengths)

    @cached_property
    def cumulative_B(self) -> Tensor:
        """Where each sequence ends: a 0, then cumulative lengths, int32, (B + 1,), as variable-length kernels want."""
        return torch.nn.functional.pad(self.lengths_B.cumsum(0), (1, 0)).to(torch.int32)

    @cached_property
    def first_B(self) -> Tensor:
        """Row of each sequence's first token."""
        return self.cumulative_B[:-1].long()

    @cached_property
    def last_B(self) -> Tensor:
        """Row of each sequence's last token."""
        return self.cumulative_B[1:].long() - 1

    @cached_property
    def owner_T(self) -> Tensor:
        """Which sequence each token belongs to."""
        owners_B = torch.arange(len(self.lengths), device=self.ids_T.device)
        return torch.repeat_interleave(owners_B, self.lengths_B, output_size=len(self.ids_T))

    @cached_property
    def position_T(self) -> Tensor:
        """Position of each token in its own sequence, counted from the sequence's start (cached tokens included)."""
        offset_B = self.first_B if self.start_B is None else self.first_B - self.start_B
        return torch.arange(len(self.ids_T), device=self.ids_T.device) - offset_B[self.owner_T]

    def to(self, device: torch.device | str) -> Packed:
        """The same batch on another device."""
        if self.ids_T.device == torch.device(device):
            return self
        types_T = None if self.types_T is None else self.types_T.to(device)
        start_B = None if self.start_B is None else self.start_B.to(device)
        moved = Packed(self.ids_T.to(device), self.lengths_B.to(device), types_T, start_B, self.slots)
        moved.__dict__.update(lengths=self.lengths, starts=self.starts)
        return moved


def pack(
    sequences: Sequence[Sequence[Any]],
    types: Sequence[Sequence[int] | None] | None = None,
    start: Sequence[int] | None = None,
    slots: Sequence[int] | None = None,
) -> Packed:
    """Lay sequences of token ids end to end.

    Args:
        sequences: token ids of each sequence, or a list of character ids for each of its words.
        types: token types of each sequence; None for a sequence means all 0.
        start: tokens of each sequence already held by a cache.
        slots: where in the cache each lies.

    Raises:
        DataError: there is no sequence, one of them is empty, ids are no whole numbers, or types or start do not fit.
    """
    lengths = tuple(len(sequence) for sequence in sequences)
    if not lengths or not all(lengths):
        found = f"sequence {lengths.index(0)} of {len(lengths)} has no tokens" if lengths else "no sequences at all"
        raise DataError(f"nothing to pack: {found}; every sequence needs at least one token")
    if start is not None and len(start) != len(lengths):
        raise DataError(f"{len(start)} starts for {len(lengths)} sequences")
    batch = Packed(
        _numbers([token for sequence in sequences for token in sequence], "token ids", 2),
        torch.tensor(lengths, dtype=torch.int64),
        _flat_types(types, lengths),
        None if start is None else _numbers(start, "starts"),
        slots,
    )
    batch.__dict__["lengths"] = lengths
    return batch


def _flat_types(types: Sequence[Sequence[int] | None] | None, lengths: tuple[int, ...]) -> Tensor | None:
    if types is None or all(one is None for one in types):
        return None
    found = tuple(length if one is None else len(one) for one, length in zip(types, lengths, strict=False))
    if found != lengths or len(types) != len(lengths):
        raise DataError(f"token types for sequences of {_few(found)} tokens, the sequences have {_few(lengths)}")
    filled = [one if one is not None else [0] * length for one, length in zip(types, lengths, strict=True)]
    return _numbers([kind for one in filled for kind in one], "token types")


def _few(lengths: Sequence[int]) -> str:
    return ", ".join(map(str, lengths[:8])) + (", ..." if len(lengths) > 8 else "")


def _numbers(values: Sequence[Any], what: str, dimensions: int = 1) -> Tensor:
    """Whole numbers as a tensor; torch would cut fractions off without a word."""
    try:
        numbers = np.array(values)
    except ValueError as error:
        raise DataError(f"{what} must be whole numbers, found lists of several lengths") from error
    if not 1 <= numbers.ndim <= dimensions or not np.can_cast(numbers.dtype, np.int64):
        raise DataError(f"{what} must be whole numbers, found {numbers.dtype} of shape {numbers.shape}")
    return torch.from_numpy(numbers.astype(np.int64, copy=False))


def by_length(lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Plan batches of similar lengths, each at most ``tokens`` tokens (a longer sequence gets a batch of its own).

    Similar lengths make attention blocks that need no filling. Returns indices into ``lengths``, longest first, so
    that memory peaks at once and not at the end of a long job.
    """
    order = sorted(range(len(lengths)), key=lambda index: -lengths[index])
    return list(_fill(order, lengths, tokens))


def in_order(order: Sequence[int], lengths: Sequence[int], tokens: int) -> list[list[int]]:
    """Cut a given order of sequences into batches of at most ``tokens`` tokens."""
    return list(_fill(order, lengths, tokens))


def _fill(order: Sequence[int], lengths: Sequence[int], tokens: int) -> Iterator[list[int]]:
    batch: list[int] = []
    held = 0
    for index in order:
        if batch and held + lengths[index] > tokens:
            yield batch
            batch, held = [], 0
        batch.append(index)
        held += lengths[index]
    if batch:
        yield batch
