"""Attention over packed batches. This is the only file that knows attention kernels.

Two routes:

- on CUDA in half precision, variable-length kernels that read the packed rows as they lie;
- elsewhere q, k and v alone are laid into blocks of sequences of similar length, and the kernel is chosen by length:
  plain matrix products with a softmax while the scores fit the processor's cache, fused attention beyond.

Everything outside attention stays packed, so padding costs only here and only a little.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graft.batch import Packed

PLAIN_LONGEST = 320
"""Blocks up to this length take plain matrix products; the fused kernel wins beyond (benchmarks/attention.py)."""

FILL = 1.5
"""A block may hold this many times the tokens of its sequences; more filling starts another block."""

Dropout = Callable[[Tensor], Tensor]


def attend(
    q_THK: Tensor,
    k_SHK: Tensor,
    v_SHK: Tensor,
    layout: Layout,
    *,
    causal: bool,
    scale: float,
    dropout: Dropout | None = None,
) -> Tensor:
    """Let every token attend to its own sequence: softmax(q k' scale) v (Vaswani et al. 2017, equation 1).

    Args:
        q_THK: queries of the packed tokens.
        k_SHK: keys; packed as the queries are, or (B, M, H, K), the slots of a cache.
        v_SHK: values, as the keys.
        layout: how sequences lie; made once for a batch and shared by its layers.
        causal: a token sees only itself and those before it. A cache is always causal.
        scale: factor on the scores.
        dropout: applied to the attention probabilities, when training.

    Returns:
        The attended values, packed, (T, H, K).
    """
    if k_SHK.dim() == 4:
        return _from_cache(q_THK, k_SHK, v_SHK, layout, scale)
    if q_THK.is_cuda and q_THK.dtype in (torch.bfloat16, torch.float16) and dropout is None:
        kernel, seen = _varlen()
        ends, longest = layout.batch.cumulative_B, layout.batch.longest
        return kernel(q_THK, k_SHK, v_SHK, ends, ends, longest, longest, scale=scale, **seen if causal else {})
    blocks = layout.blocks
    parts = [blocks.lay(x) for x in (q_THK, k_SHK, v_SHK)]
    attended = [
        _kernel(q, k, v, blocks.mask(n, causal, q.dtype), causal, scale, dropout)
        for n, (q, k, v) in enumerate(zip(*parts, strict=True))
    ]
    return blocks.gather(attended)


@cache
def _varlen() -> tuple[Callable[..., Tensor], dict[str, Any]]:
    """The variable-length kernel and how it is told to be causal; imported late, as it takes as long as torch."""
    from torch.nn.attention.varlen import varlen_attn

    windows = "window_size" in inspect.signature(varlen_attn).parameters
    return varlen_attn, {"window_size": (-1, 0)} if windows else {"is_causal": True}  # type: ignore[return-value]


def _kernel(
    q_BHLK: Tensor,
    k_BHLK: Tensor,
    v_BHLK: Tensor,
    mask: Tensor | None,
    causal: bool,
    scale: float,
    dropout: Dropout | None,
) -> Tensor:
    """One block. The mask is additive and broadcasts to (B, H, L, L)."""
    if k_BHLK.shape[2] > PLAIN_LONGEST and dropout is None:
        flash_causal = causal and mask is not None and mask.dim() == 2
        seen = None if flash_causal else mask
        return F.scaled_dot_product_attention(q_BHLK, k_BHLK, v_BHLK, seen, is_causal=flash_causal, scale=scale)
    scores = torch.matmul(q_BHLK * scale, k_BHLK.transpose(-1, -2))
    if mask is not None:
        scores += mask
    weights = torch.softmax(scores, dim=-1)
    return torch.matmul(weights if dropout is None else dropout(weights), v_BHLK)


def _from_cache(q_THK: Tensor, k_BMHK: Tensor, v_BMHK: Tensor, layout: Layout, scale: float) -> Tensor:
    """Queries against fixed cache slots: the mask hides what lies behind a query's own position; nothing is cut off."""
    rows_BL, mask = layout.cache_rows, layout.cache_mask(k_BMHK.shape[1], q_THK.dtype)
    q_BHLK = q_THK[rows_BL].transpose(1, 2)
    out = F.scaled_dot_product_attention(q_BHLK, k_BMHK.transpose(1, 2), v_BMHK.transpose(1, 2), mask, scale=scale)
    return out.transpose(1, 2)[layout.batch.owner_T, layout.step_T]


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
            self._masks[slots, dtype] = _additive(hidden, dtype)
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
        self._masks: dict[tuple[int, bool, torch.dtype], Tensor | None] = {}

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
        """Packed rows -> one (B, H, L, K) block per group."""
        x_PHK: Tensor = _Lay.apply(x_THK, self.source_P, self.slot_T)  # type: ignore[no-untyped-call]
        parts = torch.split(x_PHK, [block.size for block in self.shapes])
        shapes = zip(self.shapes, parts, strict=True)
        return [part.view(block.sequences, block.longest, *x_THK.shape[1:]).transpose(1, 2) for block, part in shapes]

    def gather(self, blocks: Sequence[Tensor]) -> Tensor:
        """The way back: (B, H, L, K) blocks -> packed rows."""
        rows = [block.transpose(1, 2).flatten(0, 1) for block in blocks]
        x_PHK = torch.cat(rows) if len(rows) > 1 else rows[0]
        x_THK: Tensor = _Gather.apply(x_PHK, self.slot_T, self.rows)  # type: ignore[no-untyped-call]
        return x_THK

    def mask(self, number: int, causal: bool, dtype: torch.dtype) -> Tensor | None:
        """Additive mask of one block, or None where there is nothing to hide.

        A causal block needs no mask over its filling: that lies behind every real query.
        """
        key = number, causal, dtype
        if key not in self._masks:
            self._masks[key] = self._hidden(self.shapes[number], causal, dtype)
        return self._masks[key]

    def _hidden(self, block: Block, causal: bool, dtype: torch.dtype) -> Tensor | None:
        places_L = torch.arange(block.longest, device=self.batch.ids_T.device)
        if causal:
            return _additive(places_L[None, :] > places_L[:, None], dtype)
        if min(block.lengths) == block.longest:
            return None
        spare = [block.longest] * (block.sequences - len(block.lengths))
        lengths_B = torch.tensor([*block.lengths, *spare], device=places_L.device)
        return _additive(places_L >= lengths_B[:, None, None, None], dtype)


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


def _additive(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, float("-inf"))


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
