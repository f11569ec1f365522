"""How the sequences of a packed batch lie: the blocks that attention lays them into, and the way there and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from graft.batch import Packed

HIDDEN = -30000.0
"""Added to the score of what must not be seen: finite in every dtype, and zero after the exponential."""

FILL = 1.5
"""A block may hold this many times the tokens of its sequences; more filling starts another block."""


class Layout:
    """How the sequences of one batch lie, worked out once and shared by all layers."""

    def __init__(self, batch: Packed, rows: int | None = None) -> None:
        """Describe a batch.

        Args:
            batch: the sequences.
            rows: rows of the tensors to come, where they have more than the batch has tokens; the rest are zero.
        """
        self.batch = batch
        self.rows = batch.ids_T.numel() if rows is None else rows
        self._masks: dict[tuple[int, torch.dtype], Tensor] = {}

    @cached_property
    def blocks(self) -> Blocks:
        """Blocks of sequences of similar length."""
        return Blocks(self.batch, self.rows)

    @cached_property
    def step_T(self) -> Tensor:
        """Place of each token among the new tokens of its sequence."""
        return (
            torch.arange(self.batch.ids_T.numel(), device=self.batch.ids_T.device)
            - self.batch.first_B[self.batch.owner_T]
        )

    @cached_property
    def cache_rows(self) -> Tensor:
        """Rows of each sequence's new tokens, (B, L); rows past a sequence's end repeat its last one."""
        steps_L = torch.arange(self.batch.longest, device=self.batch.ids_T.device)
        return torch.minimum(self.batch.first_B[:, None] + steps_L, self.batch.last_B[:, None])

    def cache_mask(self, slots: int, dtype: torch.dtype) -> Tensor:
        """Additive mask (B, 1, L, M): a query sees the slots up to its own position."""
        if (slots, dtype) not in self._masks:
            position_BL = self.batch.position_T[self.cache_rows]
            hidden = torch.arange(slots, device=position_BL.device) > position_BL[:, None, :, None]
            self._masks[slots, dtype] = additive(hidden, dtype)
        return self._masks[slots, dtype]


@dataclass(frozen=True)
class Block:
    """Sequences of similar length side by side.

    Attributes:
        longest: rows each takes, the longest's length rounded up.
        sequences: how many there is room for; those beyond the real ones are filling.
        lengths: of the real ones.
    """

    longest: int
    sequences: int
    lengths: tuple[int, ...]

    @property
    def size(self) -> int:
        """Rows it takes in all."""
        return self.longest * self.sequences


class Blocks:
    """A packed batch cut into blocks, and the way there and back.

    The sizes of blocks are rounded up: matrix kernels are compiled for each new shape, which takes longer than to run
    them, so few shapes must serve all batches.
    """

    def __init__(self, batch: Packed, rows: int) -> None:
        self.batch, self.rows = batch, rows
        self.order, self.shapes = [], []
        for group in _similar(sorted(range(len(batch.lengths)), key=lambda one: batch.lengths[one]), batch.lengths):
            room = round_up(len(group), 4) if len(group) > 4 else len(group)
            longest = round_up(batch.lengths[group[-1]], 8)
            self.order.append(group)
            self.shapes.append(Block(longest, room, tuple(batch.lengths[one] for one in group)))
        self._filling: dict[tuple[int, torch.dtype], Tensor | None] = {}

    @cached_property
    def slot_T(self) -> Tensor:
        """Row in the blocks, laid end to end, of each packed token."""
        base = [0] * len(self.batch.lengths)
        start = 0
        for group, block in zip(self.order, self.shapes, strict=True):
            for place, sequence in enumerate(group):
                base[sequence] = start + place * block.longest
            start += block.size
        owner_T, device = self.batch.owner_T, self.batch.ids_T.device
        step_T = torch.arange(owner_T.numel(), device=device) - self.batch.first_B[owner_T]
        return torch.tensor(base, device=device)[owner_T] + step_T

    @cached_property
    def source_P(self) -> Tensor:
        """Packed token for each row of the blocks; filling rows repeat token 0, which no real token sees."""
        source_P = torch.zeros(sum(block.size for block in self.shapes), dtype=torch.int64, device=self.slot_T.device)
        source_P[self.slot_T] = torch.arange(self.slot_T.numel(), device=self.slot_T.device)
        return source_P

    def lay(self, x_THK: Tensor) -> list[Tensor]:
        """Packed rows -> one (B, L, H, K) block per group."""
        x_PHK: Tensor = _Lay.apply(x_THK, self.source_P, self.slot_T)  # type: ignore[no-untyped-call]
        parts = torch.split(x_PHK, [block.size for block in self.shapes])
        shapes = zip(self.shapes, parts, strict=True)
        return [part.view(block.sequences, block.longest, *x_THK.shape[1:]) for block, part in shapes]

    def gather(self, blocks: Sequence[Tensor]) -> Tensor:
        """The way back: (B, L, H, K) blocks -> packed rows."""
        rows = [block.flatten(0, 1) for block in blocks]
        x_PHK = torch.cat(rows) if len(rows) > 1 else rows[0]
        x_THK: Tensor = _Gather.apply(x_PHK, self.slot_T, self.rows)  # type: ignore[no-untyped-call]
        return x_THK

    def filling(self, number: int, dtype: torch.dtype) -> Tensor | None:
        """What to add to the scores of one block's keys, (B, L): 0 for tokens, HIDDEN for filling; None without any.

        Sequences that are filling as a whole are left alone: nobody looks at them.
        """
        if (number, dtype) not in self._filling:
            self._filling[number, dtype] = self._hide(self.shapes[number], dtype)
        return self._filling[number, dtype]

    def _hide(self, block: Block, dtype: torch.dtype) -> Tensor | None:
        if min(block.lengths) == block.longest:
            return None
        places_L = torch.arange(block.longest, device=self.batch.ids_T.device)
        spare = [block.longest] * (block.sequences - len(block.lengths))
        lengths_B = torch.tensor([*block.lengths, *spare], device=places_L.device)
        return additive(places_L >= lengths_B[:, None], dtype)


def _similar(order: Sequence[int], lengths: Sequence[int]) -> list[list[int]]:
    """Cut sequences, shortest first, into runs that fill a block to within FILL of its size."""
    groups: list[list[int]] = []
    held = 0
    for index in order:
        length = lengths[index]
        if groups and (len(groups[-1]) + 1) * length <= FILL * (held + length):
            groups[-1].append(index)
            held += length
        else:
            groups.append([index])
            held = length
    return groups


def additive(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to scores."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, HIDDEN)


def round_up(number: int, step: int) -> int:
    """The next multiple of a step."""
    return -(-number // step) * step


def _take(x: Tensor, index: Tensor, rows: int) -> Tensor:
    """Chosen rows of a tensor, followed by zeros up to so many rows."""
    taken = x.new_empty(rows, *x.shape[1:])
    torch.index_select(x, 0, index, out=taken[: len(index)])
    taken[len(index) :] = 0
    return taken


class _Lay(torch.autograd.Function):
    """Packed rows into block rows. Filling rows have no gradient, so the way back is a plain selection."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, source_P: Tensor, slot_T: Tensor) -> Tensor:
        """(T, ...) -> (P, ...)."""
        ctx.slot_T, ctx.rows = slot_T, x.shape[0]
        return x.index_select(0, source_P)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """(P, ...) -> (T, ...)."""
        return _take(grads[0].contiguous(), ctx.slot_T, ctx.rows), None, None


class _Gather(torch.autograd.Function):
    """Block rows back into packed rows, with zeros in the rows beyond the tokens."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, slot_T: Tensor, rows: int) -> Tensor:
        """(P, ...) -> (T, ...)."""
        ctx.slot_T, ctx.size = slot_T, x.shape[0]
        return _take(x, slot_T, rows)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        """(T, ...) -> (P, ...), zero in the filling."""
        grad = grads[0].new_zeros(ctx.size, *grads[0].shape[1:])
        return grad.index_copy_(0, ctx.slot_T, grads[0][: len(ctx.slot_T)]), None, None
