"""How much each layer counts in a learned mix of them (Peters et al. 2018, equation 1 and section 3.3)."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from graft.heads import Classify, Regress

PENALTIES = (0.1, 0.01, 0.001)
"""Factors tried on the squared weights, which draw all layers towards equal shares."""

STRENGTH = 0.01
"""Of the linear layer beside them, as scikit-learn's C. Where it is free to fit the rows learned from, the last layer
takes nearly all shares, and does worse on others (docs/log.md)."""

FEWEST, MOST = 20, 5000
"""Rows: with fewer, all layers count alike; more than the latter tell a handful of weights nothing new."""


def learn(x_LND: Tensor, target: Tensor, head: Classify | Regress, *, seed: int = 0) -> tuple[Tensor, float | None]:
    """Weights whose softmax are the layers' shares, learned together with a linear layer that is then forgotten.

    Args:
        x_LND: one vector for each layer and row, float32.
        target: as the head's loss takes them.
        head: whose loss is made small.
        seed: of the draw of rows that choose the penalty, a fifth.

    Returns:
        The weights (L,), and the penalty on them; zeros and None where there are too few rows to learn from.
    """
    rows = torch.randperm(x_LND.shape[1], generator=torch.Generator().manual_seed(seed))[:MOST]
    if len(rows) < FEWEST:
        return torch.zeros(len(x_LND)), None
    x_LND, target = x_LND[:, rows] / x_LND.mean(0).std().clamp(min=1e-6), target[rows]
    held = len(rows) // 5
    parts = (x_LND[:, held:], target[held:]), (x_LND[:, :held], target[:held])
    losses = {penalty: _loss(head, *_fit(head, *parts[0], penalty), *parts[1]) for penalty in PENALTIES}
    best = min(losses, key=lambda penalty: losses[penalty])
    return _fit(head, x_LND, target, best)[0], best


def _fit(head: Classify | Regress, x_LND: Tensor, target: Tensor, penalty: float) -> tuple[Tensor, Tensor, Tensor]:
    """The weights (L,) with a linear layer (C, D), (C,) on their mix."""
    layers, rows, size = x_LND.shape
    weights_L = torch.zeros(layers, requires_grad=True)
    output_CD, bias_C = (torch.zeros(len(head.labels), *more, requires_grad=True) for more in ((size,), ()))
    search = torch.optim.LBFGS([weights_L, output_CD, bias_C], max_iter=100, line_search_fn="strong_wolfe")

    def step() -> Tensor:
        search.zero_grad()
        small = output_CD.square().sum() / (2 * STRENGTH * rows) + penalty * weights_L.square().sum()
        loss = head.loss(_outputs(weights_L, output_CD, bias_C, x_LND), target) + small
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        search.step(step)  # type: ignore[no-untyped-call]
    return weights_L.detach(), output_CD.detach(), bias_C.detach()


def _outputs(weights_L: Tensor, output_CD: Tensor, bias_C: Tensor, x_LND: Tensor) -> Tensor:
    mixed_ND = (weights_L.softmax(0) @ x_LND.flatten(1)).view(x_LND.shape[1:])
    return F.linear(mixed_ND, output_CD, bias_C)


def _loss(
    head: Classify | Regress, weights_L: Tensor, output_CD: Tensor, bias_C: Tensor, x_LND: Tensor, target: Tensor
) -> float:
    return float(head.loss(_outputs(weights_L, output_CD, bias_C, x_LND), target))
