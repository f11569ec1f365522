"""Attention over packed batches. This is the only file that knows attention kernels.

Two routes:

- on CUDA in half precision, variable-length kernels that read the packed rows as they lie;
- elsewhere q, k and v alone are laid into blocks of sequences of similar length, and the kernel is chosen by length:
  plain matrix products while the scores fit the processor's cache, fused attention beyond.

Everything outside attention stays packed, so padding costs only here and only a little.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn import functional as F

from graft.model.layout import Blocks, Layout, Look, additive, hidden

PLAIN_LONGEST = 1024
"""Blocks up to this length take plain matrix products; the fused kernel wins beyond (benchmarks/kernels.py)."""

RANGE, RANGE_FOR_GRADIENTS = (1e-30, 1e34), (1e-20, 1e20)
"""A softmax without its row maximum is exact while its denominators lie in here. The numbers end at 1e-38 and 3e38;
the rest serves the values they multiply, and in the backward pass gradients, which are divided by them first."""

DropoutMask = Callable[[Tensor], Tensor]
"""Given scores, factors of the same shape: 0 for what is dropped, the same scale for the rest."""


class Bias(Protocol):
    """What a family adds to the scores before the softmax."""

    def block(self, q_BLHK: Tensor, blocks: Blocks, number: int) -> Tensor:
        """For one block of sequences: (B or 1, H, L, M)."""

    def slots(self, look: Look) -> Tensor:
        """For queries against the slots of a cache: (B, H, L, M)."""


def attend(
    q_THK: Tensor,
    k_SGK: Tensor,
    v_SGK: Tensor,
    layout: Layout,
    *,
    causal: bool,
    scale: float,
    window: int = 0,
    bias: Bias | None = None,
    dropout: DropoutMask | None = None,
) -> Tensor:
    """Let every token attend to its own sequence: softmax(q k' scale + bias) v (Vaswani et al. 2017, equation 1).

    Args:
        q_THK: queries of the packed tokens.
        k_SGK: keys; packed as the layout says, or (slots, G, M, K), the slots of a cache. G divides H: each head of
            keys serves H / G heads of queries in a row.
        v_SGK: values, as the keys.
        layout: how sequences lie; made once for a batch and shared by its layers.
        causal: a token sees only itself and those before it. A cache is always causal, unless it holds other sequences.
        scale: factor on the products.
        window: causal only: how many tokens a token sees, itself included; 0 means all.
        bias: added to the scaled products.
        dropout: factors for the attention probabilities, when training.

    Returns:
        The attended values, packed, (T, H, K).
    """
    if k_SGK.dim() == 4:
        return _from_slots(q_THK, k_SGK, v_SGK, layout, scale, window, bias)
    half = q_THK.dtype in (torch.bfloat16, torch.float16)
    if q_THK.is_cuda and half and dropout is None and bias is None and _varlen() is not None:
        return _by_varlen(q_THK, k_SGK, v_SGK, layout, causal, scale, window)
    blocks, attended = layout.blocks, []
    laid = zip(blocks.queries.lay(q_THK), blocks.keys.lay(k_SGK), blocks.keys.lay(v_SGK), strict=True)
    for number, (q, k, v) in enumerate(laid):
        filling = None if causal else blocks.filling(number, q.dtype)  # a causal query never looks back at filling
        added = None if bias is None else bias.block(q, blocks, number)
        if max(q.shape[1], k.shape[1]) > PLAIN_LONGEST and dropout is None:
            attended.append(_fused(q, k, v, filling, added, causal, scale, window))
        else:
            attended.append(
                _Plain.apply(q, k, v, filling, added, (causal, window), scale, dropout)  # type: ignore[no-untyped-call]
            )
    return blocks.queries.gather(attended)


def _by_varlen(
    q_THK: Tensor, k_SGK: Tensor, v_SGK: Tensor, layout: Layout, causal: bool, scale: float, window: int
) -> Tensor:
    """The packed rows as they lie, through the variable-length kernel."""
    kernel, ends = _varlen(), layout.batch.cumulative_B
    assert kernel is not None
    keys = layout.batch if layout.memory is None else layout.memory
    seen = {"window_size": (window - 1 if window else -1, 0)} if causal else {}
    groups = {"enable_gqa": True} if q_THK.shape[1] != k_SGK.shape[1] else {}
    longest = layout.batch.longest, keys.longest
    return kernel(q_THK, k_SGK, v_SGK, ends, keys.cumulative_B, *longest, scale=scale, **seen, **groups)


@cache
def _varlen() -> Callable[..., Tensor] | None:
    """The variable-length kernel; None where it is of a torch before it knew windows and groups of heads.

    Imported late, as it takes as long as torch.
    """
    from torch.nn.attention.varlen import varlen_attn

    known = inspect.signature(varlen_attn).parameters
    return varlen_attn if {"window_size", "enable_gqa"} <= set(known) else None  # type: ignore[return-value]


def _fused(
    q_BLHK: Tensor,
    k_BLGK: Tensor,
    v_BLGK: Tensor,
    filling_BL: Tensor | None,
    bias: Tensor | None,
    causal: bool,
    scale: float,
    window: int,
) -> Tensor:
    """One block through the fused kernel."""
    mask = None if filling_BL is None else filling_BL[:, None, None, :]
    if causal and (window or bias is not None):
        mask = additive(hidden(q_BLHK.shape[1], window, q_BLHK.device), q_BLHK.dtype)
    if bias is not None:
        mask = bias if mask is None else mask + bias
    q, k, v = (x.transpose(1, 2) for x in (q_BLHK, k_BLGK, v_BLGK))
    causal = causal and mask is None
    out = F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale, enable_gqa=True)
    return out.transpose(1, 2)


def _from_slots(
    q_THK: Tensor, k_SGMK: Tensor, v_SGMK: Tensor, layout: Layout, scale: float, window: int, bias: Bias | None
) -> Tensor:
    """Queries against slots of a cache, as far as those are filled; a mask hides what lies behind a query's own place.

    Where a sequence has one query, the heads that share keys lie side by side in its place.
    """
    out_THK, groups = torch.zeros_like(q_THK), k_SGMK.shape[1]
    for look in layout.looks:
        # On a processor in float32, so that the rounding of one prompt does not hang on those beside it.
        dtype = torch.promote_types(k_SGMK.dtype, torch.float32) if q_THK.device.type == "cpu" else k_SGMK.dtype
        k, v = (x[look.slots, :, : look.length].to(dtype) for x in (k_SGMK, v_SGMK))
        q = q_THK[look.rows].to(dtype)
        mask = look.mask(k.dtype, window) if bias is None else look.mask(k.dtype, window) + bias.slots(look)
        mask, single = mask[..., : k.shape[2]], q.dim() == 3
        if single and bias is not None:
            mask = mask.reshape(len(q), groups, -1, k.shape[2])
        q = q.view(len(q), groups, -1, q.shape[-1]) if single else q.transpose(1, 2)
        out = F.scaled_dot_product_attention(q, k, v, mask, scale=scale, enable_gqa=not single)
        out_THK[look.rows] = (out.flatten(1, 2) if single else out.transpose(1, 2)).to(q_THK.dtype)
    return out_THK


class _Plain(torch.autograd.Function):
    """One block by matrix products, (B, L, H, K) in and out.

    Softmax is done as exp(s) v / sum exp(s): passes over all scores as one long row, which processors like, where a
    softmax goes row by row and is many times slower on short ones. The division comes last, on the small output.
    Leaving out the row's maximum changes nothing while the sums stay in range; where they do not, `_weigh` says so.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q_BLHK: Tensor,
        k_BLGK: Tensor,
        v_BLGK: Tensor,
        filling_BL: Tensor | None,
        bias: Tensor | None,
        seen: tuple[bool, int],
        scale: float,
        dropout: DropoutMask | None,
    ) -> Tensor:
        """Attended values. `seen` is whether causal, and the window."""
        q, k, v = _heads_first(q_BLHK, scale), _heads_first(k_BLGK), _heads_first(v_BLGK)
        within = RANGE_FOR_GRADIENTS if any(ctx.needs_input_grad) else RANGE
        weights, sums = _weigh(q, k, filling_BL, bias, seen, within)
        keep = None if dropout is None else dropout(weights)
        mixed = _product(weights if keep is None else weights * keep, v)
        out_BLHK = torch.div(mixed.transpose(1, 2), sums.transpose(1, 2), out=_like(q_BLHK))
        ctx.scale, ctx.bias = scale, None if bias is None else bias.shape
        ctx.save_for_backward(q, k, v, weights, sums, keep, out_BLHK)
        return out_BLHK

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """With p = weights / sums and out = p v: ds = p * (grad v' - sum(grad * out))."""
        q, k, v, weights, sums, keep, out_BLHK = ctx.saved_tensors
        grad_BLHK = grads[0]
        towards = torch.sum(grad_BLHK * out_BLHK, -1, keepdim=True).transpose(1, 2) / sums
        grad = torch.div(grad_BLHK.transpose(1, 2), sums, out=torch.empty_like(q))
        scores = _product(grad, v.transpose(-1, -2))
        if keep is not None:
            scores *= keep
        _add_outer(scores, towards.neg_(), towards.new_ones(()).expand(*towards.shape[:2], 1, scores.shape[-1]))
        scores *= weights
        into_q = _product(scores, k).mul_(ctx.scale).transpose(1, 2)
        into_k = _contract(scores, q, k.shape[1]).transpose(1, 2)
        into_v = _contract(weights if keep is None else weights * keep, grad, k.shape[1]).transpose(1, 2)
        into_bias = scores.sum_to_size(ctx.bias) if ctx.needs_input_grad[4] else None
        return into_q, into_k, into_v, None, into_bias, None, None, None


def _weigh(
    q_BHLK: Tensor,
    k_BGMK: Tensor,
    filling_BM: Tensor | None,
    bias: Tensor | None,
    seen: tuple[bool, int],
    within: tuple[float, float],
) -> tuple[Tensor, Tensor]:
    """exp(q k' + bias) with 0 for what is not seen, (B, H, L, M), and the sums of its rows, (B, H, L, 1).

    Where a sum leaves the range, and off the processor (where looking would mean waiting), the weights are those of an
    ordinary softmax and the sums are 1.
    """
    causal, window = seen
    scores = _scores(q_BHLK, k_BGMK, filling_BM, bias)
    if scores.device.type == "cpu" and scores.dtype != torch.float16:
        weights = scores.exp_()
        if causal:
            weights.tril_()
        if window:
            weights.triu_(1 - window)
        sums = _row_sums(weights)
        least, most = sums.aminmax()
        if within[0] < least and most < within[1]:
            return weights, sums
        scores = _scores(q_BHLK, k_BGMK, filling_BM, bias)
    if causal:
        scores += additive(hidden(scores.shape[-1], window, scores.device), scores.dtype)
    weights = torch.softmax(scores, dim=-1)
    return weights, weights.new_ones(*weights.shape[:-1], 1)


def _scores(q_BHLK: Tensor, k_BGMK: Tensor, filling_BM: Tensor | None, bias: Tensor | None) -> Tensor:
    """Scores, with the filling's put out of reach."""
    scores = _product(q_BHLK, k_BGMK.transpose(-1, -2))
    if bias is not None:
        scores += bias
    if filling_BM is not None:
        heads, longest = scores.shape[1:3]
        ones = filling_BM.new_ones(()).expand(len(filling_BM), heads, longest, 1)
        _add_outer(scores, ones, filling_BM[:, None, None, :].expand(-1, heads, 1, -1))
    return scores


def _product(left_BHLX: Tensor, right_BGXY: Tensor) -> Tensor:
    """Matrix products in which each matrix on the right serves H / G of those on the left."""
    if left_BHLX.shape[1] == right_BGXY.shape[1]:
        return torch.matmul(left_BHLX, right_BGXY)
    grouped = left_BHLX.view(len(left_BHLX), right_BGXY.shape[1], -1, left_BHLX.shape[-1])
    return torch.matmul(grouped, right_BGXY).view(*left_BHLX.shape[:-1], right_BGXY.shape[-1])


def _contract(left_BHLX: Tensor, right_BHLY: Tensor, groups: int) -> Tensor:
    """Left' right, (B, G, X, Y), summed over the heads of a group."""
    left, right = (x.reshape(len(x), groups, -1, x.shape[-1]) for x in (left_BHLX, right_BHLY))
    return torch.matmul(left.transpose(-1, -2), right)


def _row_sums(weights_BHLM: Tensor) -> Tensor:
    """Sums over the last dimension, kept as one; a matrix product does short rows several times as fast as a sum."""
    rows, ones = weights_BHLM.flatten(0, 2), weights_BHLM.new_ones(weights_BHLM.shape[-1], 1)
    return torch.mm(rows, ones).view(*weights_BHLM.shape[:-1], 1)


def _add_outer(matrices_BHLM: Tensor, left_BHL1: Tensor, right_BH1M: Tensor) -> None:
    """Add an outer product to each matrix, in place; on a processor several times as fast as adding by broadcasting."""
    flat = matrices_BHLM.flatten(0, 1)
    torch.baddbmm(flat, left_BHL1.flatten(0, 1), right_BH1M.flatten(0, 1), out=flat)


def _heads_first(x_BLHK: Tensor, scale: float | None = None) -> Tensor:
    """(B, L, H, K) -> contiguous (B, H, L, K), times a factor."""
    x_BHLK = x_BLHK.transpose(1, 2)
    if scale is None:
        return x_BHLK.contiguous()
    return torch.mul(x_BHLK, scale, out=torch.empty(x_BHLK.shape, dtype=x_BHLK.dtype, device=x_BHLK.device))


def _like(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)
