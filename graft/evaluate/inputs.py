"""Refuse what cannot be scored, saying what was found and what was expected."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from graft.errors import DataError, UsageError
from graft.evaluate.intervals import Floats, check_settings

Array: TypeAlias = npt.NDArray[Any]
Integers: TypeAlias = npt.NDArray[np.int64]


def checked_rows(target: Array, probability: Array) -> tuple[Integers, Floats]:
    """Label ids (n,) and probabilities (n, C) as arrays that fit each other, rows summing to 1."""
    probability = np.asarray(probability, dtype=np.float64)
    if probability.ndim != 2 or probability.shape[1] < 1:
        raise DataError(f"expected probabilities of shape (rows, labels), found {probability.shape}")
    target = as_ids(target, probability.shape[1])
    check_lengths(len(target), len(probability))
    check_probabilities(probability)
    sums = probability.sum(1)
    if len(sums) and np.abs(sums - 1.0).max() > 1e-2:
        row = int(np.abs(sums - 1.0).argmax())
        raise DataError(f"expected the probabilities of a row to sum to 1, found {sums[row]:.4g} in row {row}")
    return target, probability


def as_ids(column: Array, n_labels: int) -> Integers:
    """Label ids (n,) as integers from 0 to n_labels - 1."""
    column = np.asarray(column)
    if column.ndim != 1 or (column.size and column.dtype.kind not in "iub"):
        raise DataError(f"expected label ids, one integer per row, found shape {column.shape} of {column.dtype}")
    if column.size and not 0 <= column.min() <= column.max() < n_labels:
        raise DataError(f"expected label ids from 0 to {n_labels - 1}, found {column.min()} to {column.max()}")
    return column.astype(np.int64)


def as_flags(column: Array, n_labels: int) -> npt.NDArray[np.bool_]:
    """Label ids (n,) as one flag per label (n, C)."""
    flags: npt.NDArray[np.bool_] = as_ids(column, n_labels)[:, None] == np.arange(n_labels)
    return flags


def checked_flags(target: Array) -> npt.NDArray[np.bool_]:
    """Flags of rows and labels (n, C), given as booleans or as 0 and 1."""
    target = np.asarray(target)
    if target.ndim != 2 or (target.size and not np.isin(target, (0, 1)).all()):
        raise DataError(f"expected flags (True, False, 0 or 1) of shape (rows, labels), found {target.shape}")
    return target.astype(bool)


def check_lengths(first: int, second: int) -> None:
    """Refuse columns of different lengths, and none at all."""
    if first != second:
        raise DataError(f"expected as many answers as true labels, found {second} and {first}")
    check_settings(first, 1, 0.95)


def check_bins(bins: int) -> None:
    """Refuse fewer than one bin."""
    if bins < 1:
        raise UsageError(f"bins must be at least 1, found {bins}. 15 is usual")


def check_probabilities(probability: Floats) -> None:
    """Refuse values that are no probabilities, most often logits."""
    if not np.isfinite(probability).all():
        raise DataError("a probability is not finite: the model's outputs hold NaN or infinity")
    if probability.size and not (probability.min() >= -1e-6 and probability.max() <= 1 + 1e-6):
        raise DataError(
            f"expected probabilities from 0 to 1, found {probability.min():.4g} to {probability.max():.4g}. "
            "Were these logits? Apply softmax or sigmoid first"
        )


def check_columns(target: Floats, prediction: Floats) -> None:
    """Refuse columns of numbers that do not fit each other, have fewer than two rows, or are not finite."""
    if target.ndim != 1 or target.shape != prediction.shape:
        raise DataError(
            f"expected one number per row in target and prediction, found {target.shape} and {prediction.shape}"
        )
    if len(target) < 2:
        raise DataError(f"numbers need at least 2 rows to be scored, found {len(target)}: give more rows")
    if not (np.isfinite(target).all() and np.isfinite(prediction).all()):
        raise DataError("a number to be scored is not finite: look for NaN or infinity in the column or the answers")
