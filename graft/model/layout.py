"""How the sequences of a packed batch lie: the blocks that attention lays them into, and the way there and back."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import accumulate
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graft.batch import Packed
from graft.model.config import Rotary
from graft.model.rotary import angles

HIDDEN = -30000.0
"""Added to the score of what must not be seen: finite in every dtype, and zero after the exponential."""

FILL = 1.5
"""A block may hold this many times the tokens of its sequences; more filling starts another block."""

APART = 4.0
"""The same for queries of one token, whose slots are best read in one piece."""

SLOT_STEP = 64
"""Places of a slot are looked at in multiples of this."""


class Layout:
    """How the sequences of one batch lie, worked out once and shared by all layers."""

    def __init__(
        self, batch: Packed, rows: int | None = None, memory: Packed | None = None, rotary: Rotary | None = None
    ) -> None:
        """Describe a batch.

        Args:
            batch: the sequences.
            rows: rows of the tensors to come, where they have more than the batch has tokens; the rest are zero.
            memory: the sequences they look at, where those are not themselves.
            rotary: how positions turn, where they do.
        """
        self.batch, self.memory, self.rotary = batch, memory, rotary
        self.rows = len(batch.ids_T) if rows is None else rows
        self._angles: dict[torch.dtype, tuple[Tensor, Tensor]] = {}

    @cached_property
    def blocks(self) -> Blocks:
        """Blocks of sequences of similar length."""
        return Blocks(self.batch, self.rows, self.memory)

    def angles(self, head_size: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Cosines and sines of the tokens' positions, (rows, 1, K) each."""
        if dtype not in self._angles:
            assert self.rotary is not None
            position_T = F.pad(self.batch.position_T, (0, self.rows - len(self.batch.position_T)))
            cosine, sine = angles(self.rotary, head_size, position_T)
            self._angles[dtype] = cosine.to(dtype), sine.to(dtype)
        return self._angles[dtype]

    @cached_property
    def step_T(self) -> Tensor:
        """Place of each token among the new tokens of its sequence."""
        places_T = torch.arange(len(self.batch.ids_T), device=self.batch.ids_T.device)
        return places_T - self.batch.first_B[self.batch.owner_T]

    @cached_property
    def looks(self) -> list[Look]:
        """How queries meet the slots of a cache."""
        return list(_looks(self.batch, self.memory))


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


class Side:
    """Queries or keys: where their packed rows lie in the blocks, and the way there and back."""

    def __init__(self, batch: Packed, rows: int, order: Sequence[Sequence[int]]) -> None:
        self.batch, self.rows, self.order = batch, rows, order
        self.shapes = [_shape([batch.lengths[one] for one in group]) for group in order]

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
        step_T = torch.arange(len(owner_T), device=device) - self.batch.first_B[owner_T]
        return torch.tensor(base, device=device)[owner_T] + step_T

    @cached_property
    def source_P(self) -> Tensor:
        """Packed token for each row of the blocks; filling rows repeat token 0, which no real token sees."""
        source_P = torch.zeros(sum(block.size for block in self.shapes), dtype=torch.int64, device=self.slot_T.device)
        source_P[self.slot_T] = torch.arange(len(self.slot_T), device=self.slot_T.device)
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


class Blocks:
    """A packed batch cut into blocks of sequences whose keys are of similar length.

    The sizes of blocks are rounded up: matrix kernels are compiled for each new shape, which takes longer than to run
    them, so few shapes must serve all batches.
    """

    def __init__(self, batch: Packed, rows: int, memory: Packed | None = None) -> None:
        seen = batch if memory is None else memory
        order = _similar(sorted(range(len(seen.lengths)), key=lambda one: seen.lengths[one]), seen.lengths)
        self.queries = Side(batch, rows, order)
        self.keys = self.queries if memory is None else Side(memory, len(memory.ids_T), order)
        self._filling: dict[tuple[int, torch.dtype], Tensor | None] = {}

    def filling(self, number: int, dtype: torch.dtype) -> Tensor | None:
        """What to add to the scores of one block's keys, (B, L): 0 for tokens, HIDDEN for filling; None without any.

        Sequences that are filling as a whole are left alone: nobody looks at them.
        """
        if (number, dtype) not in self._filling:
            block, device = self.keys.shapes[number], self.keys.batch.ids_T.device
            spare = [block.longest] * (block.sequences - len(block.lengths))
            lengths_B = torch.tensor([*block.lengths, *spare], device=device)
            unseen = torch.arange(block.longest, device=device) >= lengths_B[:, None]
            full = min(block.lengths) == block.longest
            self._filling[number, dtype] = None if full else additive(unseen, dtype)
        return self._filling[number, dtype]


def _shape(lengths: Sequence[int]) -> Block:
    room = round_up(len(lengths), 4) if len(lengths) > 4 else len(lengths)
    return Block(round_up(max(lengths), 8), room, tuple(lengths))


def _similar(order: Sequence[int], lengths: Sequence[int], fill: float = FILL) -> list[list[int]]:
    """Cut sequences, shortest first, into runs that fill a block to within `fill` of its size."""
    groups: list[list[int]] = []
    held = 0
    for index in order:
        length = lengths[index]
        if groups and (len(groups[-1]) + 1) * length <= fill * (held + length):
            groups[-1].append(index)
            held += length
        else:
            groups.append([index])
            held = length
    return groups


@dataclass(frozen=True, eq=False)
class Look:
    """Queries of some sequences side by side, and the slots of a cache they look at.

    Attributes:
        rows: of their queries: (B,) where they have one each, else (B, L), past a sequence's end its last one again.
        slots: of the cache, one for each sequence.
        length: places of a slot, enough for all of them.
        position_BL: of the queries.
        last_BL: the last place each sees; (B, 1) where all of a sequence's see the same.
    """

    rows: Tensor | slice
    slots: Tensor | slice
    length: int
    position_BL: Tensor
    last_BL: Tensor
    masks: dict[tuple[torch.dtype, int], Tensor] = field(default_factory=dict)

    def mask(self, dtype: torch.dtype, window: int = 0) -> Tensor:
        """What to add to the scores, (B, 1, L or 1, M): a query sees the places up to its last, in a window few."""
        if (dtype, window) not in self.masks:
            place_M, last = torch.arange(self.length, device=self.last_BL.device), self.last_BL[:, None, :, None]
            unseen = place_M > last if not window else (place_M > last) | (place_M <= last - window)
            self.masks[dtype, window] = additive(unseen, dtype)
        return self.masks[dtype, window]


def _looks(batch: Packed, memory: Packed | None) -> Iterator[Look]:
    """Sequences of one new token side by side; others beside those with as many; both beside slots filled as far."""
    lengths, starts, slots = batch.lengths, batch.starts, batch.slots or range(len(batch.lengths))
    seen = [a + b for a, b in zip(starts, lengths, strict=True)] if memory is None else memory.lengths
    order, firsts = sorted(range(len(lengths)), key=lengths.__getitem__), [0, *accumulate(lengths)]
    ones, device = lengths.count(1), batch.ids_T.device
    for run, fill in ((order[:ones], APART), *((run, FILL) for run in _similar(order[ones:], lengths))):
        for group in _similar(sorted(run, key=seen.__getitem__), seen, fill):
            group.sort(key=slots.__getitem__)
            steps = torch.arange(max(lengths[one] for one in group))
            ends, first_B1, start_B1 = (torch.tensor([[x[one]] for one in group]) for x in (lengths, firsts, starts))
            step_BL = torch.minimum(steps, ends - 1)
            position_BL = (start_B1 + step_BL).to(device)
            last_BL = position_BL if memory is None else torch.tensor([[seen[one] - 1] for one in group], device=device)
            rows = (
                _places([firsts[one] for one in group], device) if len(steps) == 1 else (first_B1 + step_BL).to(device)
            )
            length = round_up(max(seen[one] for one in group), SLOT_STEP)
            yield Look(rows, _places([slots[one] for one in group], device), length, position_BL, last_BL)


def _places(numbers: Sequence[int], device: torch.device) -> Tensor | slice:
    """Where to find something; numbers in a row as a slice, which needs no copying."""
    first, end = numbers[0], numbers[0] + len(numbers)
    return slice(first, end) if list(numbers) == list(range(first, end)) else torch.tensor(numbers, device=device)


def hidden(length: int, window: int, device: torch.device) -> Tensor:
    """What each token of a causal sequence does not see, (L, L)."""
    place_L = torch.arange(length, device=device)
    behind_LL = place_L[:, None] - place_L
    return (behind_LL < 0) | (behind_LL >= window) if window else behind_LL < 0


def additive(unseen: Tensor, dtype: torch.dtype) -> Tensor:
    """A mask to add to scores."""
    return torch.zeros(unseen.shape, dtype=dtype, device=unseen.device).masked_fill_(unseen, HIDDEN)


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
