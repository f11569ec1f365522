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
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from graft.model.layout import Layout, additive

PLAIN_LONGEST = 1024
"""Blocks up to this length take plain matrix products; the fused kernel wins beyond (benchmarks/kernels.py)."""

RANGE, RANGE_FOR_GRADIENTS = (1e-30, 1e34), (1e-20, 1e20)
"""A softmax without its row maximum is exact while its denominators lie in here. The numbers end at 1e-38 and 3e38;
the rest serves the values they multiply, and in the backward pass gradients, which are divided by them first."""

DropoutMask = Callable[[Tensor], Tensor]
"""Given scores, factors of the same shape: 0 for what is dropped, the same scale for the rest."""


def attend(
    q_THK: Tensor,
    k_SHK: Tensor,
    v_SHK: Tensor,
    layout: Layout,
    *,
    causal: bool,
    scale: float,
    dropout: DropoutMask | None = None,
) -> Tensor:
    """Let every token attend to its own sequence: softmax(q k' scale) v (Vaswani et al. 2017, equation 1).

    Args:
        q_THK: queries of the packed tokens.
        k_SHK: keys; packed as the queries are, or (B, M, H, K), the slots of a cache.
        v_SHK: values, as the keys.
        layout: how sequences lie; made once for a batch and shared by its layers.
        causal: a token sees only itself and those before it. A cache is always causal.
        scale: factor on the scores.
        dropout: factors for the attention probabilities, when training.

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
    attended = []
    for number, (q, k, v) in enumerate(zip(*(blocks.lay(x) for x in (q_THK, k_SHK, v_SHK)), strict=True)):
        filling = None if causal else blocks.filling(number, q.dtype)  # a causal query never looks back at filling
        if q.shape[1] > PLAIN_LONGEST and dropout is None:
            attended.append(_fused(q, k, v, filling, causal, scale))
        else:
            attended.append(_Plain.apply(q, k, v, filling, causal, scale, dropout))  # type: ignore[no-untyped-call]
    return blocks.gather(attended)


@cache
def _varlen() -> tuple[Callable[..., Tensor], dict[str, Any]]:
    """The variable-length kernel and how it is told to be causal; imported late, as it takes as long as torch."""
    from torch.nn.attention.varlen import varlen_attn

    windows = "window_size" in inspect.signature(varlen_attn).parameters
    return varlen_attn, {"window_size": (-1, 0)} if windows else {"is_causal": True}  # type: ignore[return-value]


def _fused(
    q_BLHK: Tensor, k_BLHK: Tensor, v_BLHK: Tensor, filling_BL: Tensor | None, causal: bool, scale: float
) -> Tensor:
    """One block through the fused kernel."""
    mask = None if filling_BL is None else filling_BL[:, None, None, :]
    q, k, v = (x.transpose(1, 2) for x in (q_BLHK, k_BLHK, v_BLHK))
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=causal, scale=scale).transpose(1, 2)


def _from_cache(q_THK: Tensor, k_BMHK: Tensor, v_BMHK: Tensor, layout: Layout, scale: float) -> Tensor:
    """Queries against fixed cache slots: the mask hides what lies behind a query's own position; nothing is cut off."""
    rows_BL, mask = layout.cache_rows, layout.cache_mask(k_BMHK.shape[1], q_THK.dtype)
    q_BHLK = q_THK[rows_BL].transpose(1, 2)
    out = F.scaled_dot_product_attention(q_BHLK, k_BMHK.transpose(1, 2), v_BMHK.transpose(1, 2), mask, scale=scale)
    return out.transpose(1, 2)[layout.batch.owner_T, layout.step_T]


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
        k_BLHK: Tensor,
        v_BLHK: Tensor,
        filling_BL: Tensor | None,
        causal: bool,
        scale: float,
        dropout: DropoutMask | None,
    ) -> Tensor:
        """Attended values."""
        q, k, v = _heads_first(q_BLHK, scale), _heads_first(k_BLHK), _heads_first(v_BLHK)
        within = RANGE_FOR_GRADIENTS if any(ctx.needs_input_grad) else RANGE
        weights, sums = _weigh(q, k, filling_BL, causal, within)
        keep = None if dropout is None else dropout(weights)
        mixed = torch.matmul(weights if keep is None else weights * keep, v)
        out_BLHK = torch.div(mixed.transpose(1, 2), sums.transpose(1, 2), out=_like(q_BLHK))
        ctx.scale = scale
        ctx.save_for_backward(q, k, v, weights, sums, keep, out_BLHK)
        return out_BLHK

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        """With p = weights / sums and out = p v: ds = p * (grad v' - sum(grad * out))."""
        q, k, v, weights, sums, keep, out_BLHK = ctx.saved_tensors
        grad_BLHK = grads[0]
        towards = torch.sum(grad_BLHK * out_BLHK, -1, keepdim=True).transpose(1, 2) / sums
        grad = torch.div(grad_BLHK.transpose(1, 2), sums, out=torch.empty_like(q))
        scores = torch.matmul(grad, v.transpose(-1, -2))
        if keep is not None:
            scores *= keep
        _add_outer(scores, towards.neg_(), towards.new_ones(()).expand(*towards.shape[:2], 1, scores.shape[-1]))
        scores *= weights
        into_q = torch.matmul(scores, k).mul_(ctx.scale)
        into_k = torch.matmul(scores.transpose(-1, -2), q)
        into_v = torch.matmul((weights if keep is None else weights * keep).transpose(-1, -2), grad)
        return into_q.transpose(1, 2), into_k.transpose(1, 2), into_v.transpose(1, 2), None, None, None, None


def _weigh(
    q_BHLK: Tensor, k_BHLK: Tensor, filling_BL: Tensor | None, causal: bool, within: tuple[float, float]
) -> tuple[Tensor, Tensor]:
    """exp(q k') with 0 for what is not seen, (B, H, L, L), and the sums of its rows, (B, H, L, 1).

    Where a sum leaves the range, and off the processor (where looking would mean waiting), the weights are those of an
    ordinary softmax and the sums are 1.
    """
    scores = _scores(q_BHLK, k_BHLK, filling_BL)
    if scores.device.type == "cpu" and scores.dtype != torch.float16:
        weights = scores.exp_()
        if causal:
            weights.tril_()
        sums = _row_sums(weights)
        least, most = sums.aminmax()
        if within[0] < least and most < within[1]:
            return weights, sums
        scores = _scores(q_BHLK, k_BHLK, filling_BL)
    if causal:
        scores += additive(torch.ones(scores.shape[-2:], dtype=torch.bool, device=scores.device).triu_(1), scores.dtype)
    weights = torch.softmax(scores, dim=-1)
    return weights, weights.new_ones(*weights.shape[:-1], 1)


def _scores(q_BHLK: Tensor, k_BHLK: Tensor, filling_BL: Tensor | None) -> Tensor:
    """Scores, with the filling's put out of reach."""
    scores = torch.matmul(q_BHLK, k_BHLK.transpose(-1, -2))
    if filling_BL is not None:
        heads, longest = scores.shape[1:3]
        ones = filling_BL.new_ones(()).expand(len(filling_BL), heads, longest, 1)
        _add_outer(scores, ones, filling_BL[:, None, None, :].expand(-1, heads, 1, -1))
    return scores


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
