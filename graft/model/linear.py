"""Linear layers, and their weights laid out for a processor's matrix kernels."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Linear(nn.Linear):
    """x W' + b. Inside `laid_out`, with a copy of W in the order the matrix kernels read it."""

    laid: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        """(T, in) -> (T, out)."""
        laid = self.laid  # read once: another thread may leave `laid_out` meanwhile
        if laid is None or torch.is_grad_enabled():
            return F.linear(x, self.weight, self.bias)
        return torch.ops.mkldnn._linear_pointwise(x, laid, self.bias, "none", [], "")  # type: ignore[no-any-return]


@contextlib.contextmanager
def laid_out(model: nn.Module) -> Iterator[None]:
    """Lay out the weights of all Linear layers once, for as long as this lasts.

    A matrix kernel reads weights in an order of its own and otherwise copies them into it at every call; on two
    processor cores that costs a fifth of the time in bfloat16, and more than half in float32 (benchmarks/kernels.py).
    The copies take as much memory as the weights. Meant for long jobs without gradients; weights must not change
    meanwhile. Where the processor or this build of torch has no such kernels, nothing happens.
    """
    layers = [layer for layer in model.modules() if isinstance(layer, Linear) and _can_lay(layer.weight)]
    try:
        for layer in layers:
            layer.laid = torch.ops.mkldnn._reorder_linear_weight(layer.weight.detach())
        yield
    finally:
        for layer in layers:
            layer.laid = None


def _can_lay(weight: Tensor) -> bool:
    if weight.device.type != "cpu" or not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    if not all(hasattr(torch.ops.mkldnn, name) for name in ("_reorder_linear_weight", "_linear_pointwise")):
        return False  # pragma: no cover - only builds of torch without these kernels
    return weight.dtype == torch.float32 or (
        weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    )
