"""Scores as functions of sums over rows, so that thousands of resamples are scored by one matrix product.

Letters: R resamples, n rows, C labels. Each ``measure`` takes counts (R, n), how often each resample holds each row,
and gives the scores by name, each (R,), NaN where undefined.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import sparse

from graft.evaluate.inputs import Integers
from graft.evaluate.intervals import CELLS, Floats, Measure

SMALLEST = float(np.finfo(np.float64).eps)
"""Probabilities are raised to this before a logarithm is taken, as scikit-learn does."""


def divide(top: Floats, bottom: Floats) -> Floats:
    """Divide; 0 / 0 is NaN, without a warning."""
    undefined: Floats = np.full(np.broadcast(top, bottom).shape, np.nan)
    np.divide(top, bottom, out=undefined, where=bottom != 0)
    return undefined


def mean_defined(values: Floats) -> Floats:
    """Mean of each row (R, C) over its defined values; NaN where there is none."""
    defined = np.isfinite(values)
    return divide(np.where(defined, values, 0.0).sum(1), defined.sum(1).astype(np.float64))


def bin_of(confidence: Floats, bins: int) -> Integers:
    """Bin of each confidence, equal widths over [0, 1]; bin b holds (b / bins, (b + 1) / bins]."""
    found: Integers = np.clip(np.ceil(confidence * bins).astype(np.int64) - 1, 0, bins - 1)
    return found


def one_hot(columns: Integers, width: int, values: Floats | None = None) -> Any:
    """Sparse (n, width) matrix with one value a row (1 unless given)."""
    n = len(columns)
    filled = np.ones(n) if values is None else values
    return sparse.csr_array((filled, columns, np.arange(n + 1)), shape=(n, width))


def row_errors(target: Integers, probability: Floats) -> Floats:
    """Negative log-likelihood and Brier score of each row: (n, 2)."""
    rows = np.arange(len(target))
    true = probability[rows, target]
    nll = -np.log(np.maximum(true, SMALLEST))
    brier = (probability**2).sum(1) - true**2 + (1.0 - true) ** 2
    return np.column_stack([nll, brier / 2 if probability.shape[1] == 2 else brier])


def classification_measure(target: Integers, probability: Floats, bins: int) -> Measure:
    """Measure macro_f1, balanced_accuracy, matthews, accuracy, nll, brier and ece of one label per row."""
    n_labels = probability.shape[1]
    predicted, confidence = probability.argmax(1), probability.max(1)
    right = (predicted == target).astype(np.float64)
    overlaps = [one_hot(target, n_labels, right), one_hot(predicted, n_labels), one_hot(target, n_labels)]
    errors = sparse.csr_array(row_errors(target, probability))
    gaps = one_hot(bin_of(confidence, bins), bins, confidence - right)
    statistics = sparse.hstack([*overlaps, errors, gaps]).tocsr()

    def measure(counts: Floats) -> dict[str, Floats]:
        sums, rows = counts @ statistics, counts.sum(1)
        hits, given, true, means, gap = np.split(sums, np.cumsum([n_labels, n_labels, n_labels, 2]), axis=1)
        return {
            "accuracy": hits.sum(1) / rows,
            "macro_f1": mean_defined(divide(2 * hits, given + true)),
            "balanced_accuracy": mean_defined(divide(hits, true)),
            "matthews": matthews(hits, given, true),
            "nll": means[:, 0] / rows,
            "brier": means[:, 1] / rows,
            "ece": np.abs(gap).sum(1) / rows,
        }

    return measure


def matthews(hits: Floats, given: Floats, true: Floats) -> Floats:
    """Multi-class Matthews correlation from sums by label, each (R, C) (Gorodkin 2004); 0 where it is 0 / 0."""
    rows = true.sum(1)
    covariance = hits.sum(1) * rows - (given * true).sum(1)
    spread = (rows**2 - (given**2).sum(1)) * (rows**2 - (true**2).sum(1))
    return np.nan_to_num(divide(covariance, np.sqrt(spread)), nan=0.0)


def overlap_measure(truth: npt.NDArray[np.bool_], given: npt.NDArray[np.bool_]) -> Measure:
    """Measure micro_f1 and macro_f1 of any number of labels per row, both (n, C)."""
    parts = [sparse.csr_array(part.astype(np.float64)) for part in (truth & given, given, truth)]
    statistics = sparse.hstack(parts).tocsr()

    def measure(counts: Floats) -> dict[str, Floats]:
        hits, claimed, true = np.split(counts @ statistics, 3, axis=1)
        return {
            "micro_f1": divide(2 * hits.sum(1), (claimed + true).sum(1)),
            "macro_f1": mean_defined(divide(2 * hits, claimed + true)),
        }

    return measure


def calibrated_errors(probability: Floats, bins: int, resamples: int, seed: int) -> Floats:
    """Calibration errors chance alone gives: outcomes drawn from the stated confidences, as often as resamples (R,)."""
    confidence = probability.max(1)
    member = one_hot(bin_of(confidence, bins), bins)
    generator = np.random.default_rng([seed, 1])
    n = len(confidence)
    at_once = max(1, CELLS // n)
    errors = []
    for done in range(0, resamples, at_once):
        right = generator.random((min(at_once, resamples - done), n)) < confidence
        errors.append(np.abs((confidence - right) @ member).sum(1) / n)
    return np.concatenate(errors)


def regression_measure(target: Floats, prediction: Floats) -> Measure:
    """Measure pearson, spearman, mse, rmse and mae of two columns (n,)."""
    error = target - prediction
    errors = np.column_stack([error**2, np.abs(error)])
    columns = np.column_stack([_standard(target), _standard(prediction)])
    ranked = [_groups(column) for column in (target, prediction)]

    def measure(counts: Floats) -> dict[str, Floats]:
        mse, mae = (counts @ errors / counts.sum(1, keepdims=True)).T
        ranks = [_midranks(counts, *groups) for groups in ranked]
        return {
            "pearson": _correlation(counts, *(np.broadcast_to(column, counts.shape) for column in columns.T)),
            "spearman": _correlation(counts, *ranks),
            "mse": mse,
            "rmse": np.sqrt(mse),
            "mae": mae,
        }

    return measure


def _standard(column: Floats) -> Floats:
    """Mean 0 and deviation 1, so that sums of squares keep their precision; a constant column gives zeros."""
    spread = column.std() if np.ptp(column) > 0 else 0.0
    return (column - column.mean()) / spread if spread > 0 else np.zeros_like(column)


def _groups(column: Floats) -> tuple[Integers, int]:
    """Number each row's value in rising order, equal values alike."""
    values, group = np.unique(column, return_inverse=True)
    return group, len(values)


def _midranks(counts: Floats, group: Integers, n_groups: int) -> Floats:
    """Rank of each row in each resample (R, n), equal values sharing their mean rank; centred and scaled to [-1, 1]."""
    sizes = counts @ one_hot(group, n_groups)
    middle = np.cumsum(sizes, axis=1) - sizes / 2
    ranks: Floats = (2 * middle / counts.sum(1, keepdims=True) - 1)[:, group]
    return ranks


def _correlation(counts: Floats, first: Floats, second: Floats) -> Floats:
    """Weighted correlation of each resample (R,); NaN where either column is constant in it."""
    rows = counts.sum(1)
    weighted = counts * first
    means = weighted.sum(1) / rows, np.einsum("rn,rn->r", counts, second) / rows
    squares = np.einsum("rn,rn->r", weighted, first), np.einsum("rn,rn,rn->r", counts, second, second)
    variance = [square / rows - mean**2 for square, mean in zip(squares, means, strict=True)]
    covariance = np.einsum("rn,rn->r", weighted, second) / rows - means[0] * means[1]
    constant = (variance[0] < 1e-12) | (variance[1] < 1e-12)
    spread = np.where(constant, 0.0, np.sqrt(np.maximum(variance[0], 0) * np.maximum(variance[1], 0)))
    return np.clip(divide(covariance, spread), -1.0, 1.0)
