"""A linear probe: the backbone stays as it is, the head is solved for on features computed once.

Encoders are probed on the mean of their tokens, which tells more than the first token does. So that the result still
opens as an ordinary published classifier, which reads the first token, the mean is written as one more block: with
query and key zero, attention is uniform and the first token receives the mean of all (docs/decisions). The head's tanh
layer, shared by such classifiers, is set to a gentle slope, and the features the probe learns from are exactly what
that block and layer will compute.

With `mix` the head reads a learned mix of all layers, as ELMo is used (Peters et al. 2018). No published classifier can
hold one, so it is saved as what was learned beside its base (docs/adapters.md).
"""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression, RidgeCV
from sklearn.model_selection import StratifiedKFold, StratifiedShuffleSplit
from torch import Tensor, nn
from torch.nn import functional as F

from graft import adapters, shares
from graft.errors import UsageError
from graft.features import features
from graft.grafted import Model
from graft.heads import Classify, Head, Pool, Pooled, Regress
from graft.model.attention import Attention

STRENGTHS = (0.01, 0.1, 1.0, 10.0, 100.0)
"""Inverse regularization strengths tried, C of scikit-learn's LogisticRegression."""

SLOPE = 0.1
"""Scale inside the head's tanh: normalized features keep clear of saturation."""

ROOM = 4 * SLOPE
"""Added inside a head's relu: four standard deviations of the features below their mean still pass."""

LOUD = 1e5
"""Factor on the mean before its block normalizes: it leaves a share of 1e-5 to the token the block is added to."""

MANY = 2000
"""From this many rows on one held-out fifth chooses the strength; below, five folds do."""


@dataclass(frozen=True, kw_only=True)
class Probe:
    """Logistic (or ridge) regression on frozen features.

    Attributes:
        layer: the block whose output is probed, 1, 2, ... from the bottom or -1, -2, ... from the top. The blocks above
            it are cut off: what is saved is a smaller and faster model that gives exactly this output.
        mix: read a learned mix of all layers instead.
    """

    name: ClassVar[str] = "probe"
    layer: int = -1
    mix: bool = False

    def __post_init__(self) -> None:
        if self.mix and self.layer != -1:
            raise UsageError(
                f"strategy probe: mix reads all layers, layer={self.layer} one of them; leave one of the two out"
            )

    def solve(
        self,
        model: Model,
        sequences: Sequence[Sequence[int]],
        types: Sequence[Sequence[int] | None],
        targets: Tensor,
        *,
        seed: int = 0,
        balanced: bool = False,
        dtype: torch.dtype = torch.float32,
        progress: Callable[[int], None] | None = None,
        windows: Sequence[int] | None = None,
    ) -> dict[str, Any]:
        """Fit the model's head.

        Args:
            model: with a fresh Classify or Regress head.
            sequences: token ids of the training rows.
            types: their token types.
            targets: label numbers (n,), or 0 and 1 (n, C), or numbers (n,) for a Regress head.
            seed: of the split that chooses the strength of regularization.
            balanced: weigh labels inversely to how often they occur.
            dtype: what the features are computed in.
            progress: told how many sequences are done.
            windows: how many sequences each row has; their mean output, which is linear in the mean of what the output
                layer reads, is what is fitted. None: one each.

        Raises:
            UsageError: the head is not one a probe can solve for, or the model has no such layer.
        """
        head = check(model, self.name)
        _cut(model, self.layer)
        how: Pool = "mean" if self.mix else pool_of(head)
        raw = features(model, sequences, types, how, dtype, progress, layers=self.mix)
        mixed: dict[str, Any] = {}
        if self.mix:
            raw, mixed = _mix(model, head, raw, targets, windows, seed)
        elif head.dense is not None:
            raw = F.layer_norm(raw, raw.shape[-1:], eps=model.backbone.config.norm_eps)
        scale = 1.0 if head.dense is not None else 1.0 / float(raw.std().clamp(min=1e-6))
        read = _by_row(_as_published(raw, head) if head.dense is not None else raw * scale, windows)
        weight, bias, found = _solve(head, read.double().numpy(), targets.numpy(), seed, balanced)
        _fill(head, weight * scale, bias)
        if head.dense is not None and not self.mix:
            _append_mean(model)
        return {**found, **mixed}


def check(model: Model, name: str) -> Pooled:
    """The model's head, where it can be solved for.

    Raises:
        UsageError: it gives no labels or scores, or its family's classifier could not hold the mean.
    """
    head = model.head
    if not isinstance(head, Classify | Regress):
        raise UsageError(f"the {name} strategy needs a task with labels or scores to solve for; use strategy full")
    if head.dense is not None and model.backbone.config.norm == "pre":
        raise UsageError(f"the {name} strategy cannot be written into {model.family.name} models; use strategy full")
    return head


def _cut(model: Model, layer: int) -> None:
    """Take away the blocks above a layer."""
    config, blocks = model.backbone.config, len(model.backbone.blocks)
    if not 1 <= abs(layer) <= blocks:
        raise UsageError(
            f"strategy probe: layer is {layer}, this model has {blocks}; choose 1 to {blocks} or -1 to -{blocks}"
        )
    kept = layer if layer > 0 else blocks + 1 + layer
    if kept == blocks:
        return
    del model.backbone.blocks[kept:]
    dense = tuple(one for one in config.dense_layers if one < kept)
    model.backbone.config = dataclasses.replace(config, layers=kept, windows=config.windows[:kept], dense_layers=dense)


def pool_of(head: Head) -> Pool:
    """What a head is solved for on: the mean of the tokens where it can be written, else what the head reads."""
    assert isinstance(head, Pooled)
    return head.pool if head.dense is None else "mean"


def _by_row(read: Tensor, windows: Sequence[int] | None) -> Tensor:
    """The mean of each row's windows."""
    if windows is None:
        return read
    return torch.stack([rows.mean(0) for rows in torch.split(read, list(windows))])


def _mix(
    model: Model, head: Pooled, every: Tensor, targets: Tensor, windows: Sequence[int] | None, seed: int
) -> tuple[Tensor, dict[str, Any]]:
    """Let the head read a mix of the layers; gives it for each sequence, (n, D), and what was found.

    Args:
        model: the model, whose backbone gets the mix.
        head: its head.
        every: the layers' means beside each other, (n, (layers + 1) D).
        targets: as for `Probe.solve`.
        windows: as for `Probe.solve`.
        seed: of the rows that say how far shares may differ.
    """
    assert isinstance(head, Classify | Regress)
    depth, size = model.backbone.config.layers + 1, model.backbone.config.hidden_size
    x_LND = _by_row(every, windows).view(-1, depth, size).transpose(0, 1).contiguous()
    weights_L, penalty = shares.learn(x_LND, targets, head, seed=seed)
    found_L = weights_L.softmax(0)
    mixed_ND = torch.einsum("l,nld->nd", found_L, every.view(-1, depth, size))
    gamma = 1.0 / float(mixed_ND.std().clamp(min=1e-6))
    adapters.mix(model.backbone, weights_L, gamma)
    return gamma * mixed_ND, {"shares": [round(share, 4) for share in found_L.tolist()], "penalty": penalty}


def _as_published(mean_ND: Tensor, head: Pooled) -> Tensor:
    """What the head's dense layer makes of normalized means."""
    return head.activation(SLOPE * mean_ND + _room(head))


def _room(head: Pooled) -> float:
    return ROOM if head.activation is torch.relu else 0.0


def _fill(head: Pooled, weight: np.ndarray[Any, Any], bias: np.ndarray[Any, Any]) -> None:
    """Put what was found into a head, and let its dense layer pass what it reads."""
    with torch.no_grad():
        head.output.weight.copy_(torch.from_numpy(weight))
        if head.output.bias is not None:
            head.output.bias.copy_(torch.from_numpy(np.array(bias)))
        if head.dense is not None:
            head.dense.weight.copy_(SLOPE * torch.eye(head.dense.in_features))
            nn.init.constant_(head.dense.bias, _room(head))


def _append_mean(model: Model) -> None:
    """Add the block that hands the first token the mean of all tokens."""
    config = model.backbone.config
    block = model.backbone.block(config, config.layers)
    size = torch.eye(config.hidden_size)
    with torch.no_grad():
        for layer in block.modules():
            if not isinstance(layer, nn.LayerNorm):
                for parameter in layer.parameters(recurse=False):
                    nn.init.zeros_(parameter)
        attention = block.attention
        assert isinstance(attention, Attention)
        attention.value.weight.copy_(size)
        attention.output.weight.copy_(LOUD * size)
    model.backbone.blocks.append(block.to(dtype=model.dtype, device=model.device).eval())
    model.backbone.config = dataclasses.replace(config, layers=config.layers + 1)


def _solve(
    head: Pooled, x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], seed: int, balanced: bool
) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any], dict[str, Any]]:
    """Weights (C, D), biases (C,) and what was found on the way."""
    intercept = head.output.bias is not None
    if not isinstance(head, Classify):
        ridge = RidgeCV(alphas=[1 / strength for strength in STRENGTHS], fit_intercept=intercept).fit(x, y)
        return ridge.coef_[None], np.atleast_1d(ridge.intercept_), {"alpha": float(ridge.alpha_)}
    weights = "balanced" if balanced else None
    if head.problem == "multi":
        columns = [_binary(x, y[:, label], seed, weights, intercept) for label in range(y.shape[1])]
        coefficients = np.stack([weight for weight, _, _ in columns])
        return coefficients, np.array([bias for _, bias, _ in columns]), {"C": [strength for _, _, strength in columns]}
    strength = _strength(x, y, seed, weights, intercept)
    fitted = _fit(x, y, strength, weights, intercept)
    weight, bias = fitted.coef_, np.broadcast_to(fitted.intercept_, len(fitted.coef_))
    if len(head.labels) == 2:
        weight, bias = np.concatenate([-weight, weight]) / 2, np.concatenate([-bias, bias]) / 2
    return weight, bias, {"C": strength}


def _binary(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], seed: int, weights: str | None, intercept: bool
) -> tuple[np.ndarray[Any, Any], float, float]:
    """One label of several. A label that always or never holds is answered by its smoothed frequency alone."""
    if y.min() == y.max():
        share = (y.sum() + 0.5) / (len(y) + 1)
        return np.zeros(x.shape[1]), float(np.log(share / (1 - share))), 0.0
    strength = _strength(x, y, seed, weights, intercept)
    fitted = _fit(x, y, strength, weights, intercept)
    return fitted.coef_[0], float(np.ravel(fitted.intercept_)[0]) if intercept else 0.0, strength


def _strength(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], seed: int, weights: str | None, intercept: bool
) -> float:
    """The strength with the best accuracy on rows not fitted; a label held by fewer than two rows allows no choice."""
    fewest = int(np.unique(y, return_counts=True)[1].min())
    if fewest < 2:
        return 1.0
    folds = min(5, fewest)
    splits: Any = StratifiedKFold(folds, shuffle=True, random_state=seed)
    if len(y) >= MANY:
        splits = StratifiedShuffleSplit(1, test_size=0.2, random_state=seed)
    scores = dict.fromkeys(STRENGTHS, 0.0)
    for fit, held in splits.split(x, y):
        for strength in STRENGTHS:
            scores[strength] += _fit(x[fit], y[fit], strength, weights, intercept).score(x[held], y[held])
    return max(scores, key=lambda strength: (scores[strength], -strength))


def _fit(
    x: np.ndarray[Any, Any], y: np.ndarray[Any, Any], strength: float, weights: str | None, intercept: bool
) -> LogisticRegression:
    """A regression that has not quite converged is still the best found; the held-out score judges it."""
    regression = LogisticRegression(C=strength, max_iter=300, class_weight=weights, fit_intercept=intercept)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        return regression.fit(x, y)


STRATEGY = Probe
