"""Probabilities that can be taken at their word: a temperature for logits, and the probability from which answers hold.

One number, the temperature, divides all logits (Guo et al. 2017, "On Calibration of Modern Neural Networks"). It leaves
every answer as it is and changes only how sure the model says it is. It is found on rows the model did not learn from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, expit, softmax

from graft.errors import DataError, UsageError
from graft.evaluate.inputs import Array, Integers
from graft.evaluate.intervals import Floats, Interval, wilson
from graft.evaluate.row_statistics import classification_measure

FURTHEST = 100.0
"""Temperatures from 1 / FURTHEST to FURTHEST are looked at."""

HALVINGS = 60


@dataclass(frozen=True, kw_only=True)
class Reliance:
    """From which probability on a model's answers are to be relied on.

    Attributes:
        threshold: the least probability.
        wanted: the precision asked for.
        reached: whether the rows bear it out; else this is the threshold of the best precision they do.
        precision: share of right answers among the rows from the threshold on.
        low: 95 % sure, that share is at least this in general (one-sided, Clopper & Pearson 1934).
        coverage: share of the rows that are answered.
        rows: rows it was chosen on.
    """

    threshold: float
    wanted: float
    reached: bool
    precision: float
    low: float
    coverage: float
    rows: int


def temperature(logits: Array, target: Array) -> float:
    """The temperature at which the rows' targets are most probable.

    The negative log-likelihood is convex in 1 / temperature, so that the root of its slope is found by halving. Targets
    are smoothed by 1 / (n + 2), as Platt 1999 does: without it, rows that are all answered rightly would ask for
    certainty.

    Args:
        logits: (n, C).
        target: label ids (n,), or which labels hold (n, C) where several may.

    Raises:
        DataError: no rows, or logits that are not finite.
    """
    z, y = np.asarray(logits, dtype=np.float64), np.asarray(target)
    if not len(z) or len(z) != len(y) or not np.isfinite(z).all():
        raise DataError(f"a temperature needs rows of finite logits with targets, found {len(z)} with {len(y)} targets")
    smooth = 1.0 / (len(z) + 2)
    if y.ndim == 1:
        true = (1 - smooth) * np.take_along_axis(z, y[:, None].astype(np.int64), 1)[:, 0] + smooth * z.mean(1)
    else:
        z, held = z.reshape(-1), y.reshape(-1).astype(np.float64)
        true = ((1 - smooth) * held + smooth / 2) * z

    def slope(inverse: float) -> float:
        expected = (softmax(inverse * z, axis=1) * z).sum(1) if y.ndim == 1 else expit(inverse * z) * z
        return float((expected - true).mean())

    low, high = -np.log(FURTHEST), np.log(FURTHEST)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        low, high = (low, middle) if slope(float(np.exp(middle))) > 0 else (middle, high)
    return float(np.exp(-(low + high) / 2))


def trust(target: Array, probability: Array, bins: int = 15) -> dict[str, float]:
    """How far probabilities can be trusted: ece, brier and nll, of labels (n,) or, where several may hold, (n, C).

    Where several labels may hold, every row and label is a question of its own, with two answers.
    """
    target, probability = as_questions(target, probability)
    found = classification_measure(target, probability, bins)(np.ones((1, len(target))))
    return {name: float(found[name][0]) for name in ("ece", "brier", "nll")}


def as_questions(target: Array, probability: Array) -> tuple[Integers, Floats]:
    """Label ids and rows of probabilities; of several labels, one row for each row and label: no or yes."""
    ids, shares = np.asarray(target), np.asarray(probability, dtype=np.float64)
    if ids.ndim == 1:
        return ids.astype(np.int64), shares
    yes = shares.reshape(-1)
    return ids.reshape(-1).astype(np.int64), np.column_stack([1 - yes, yes])


def reliance(confidence: Array, right: Array, precision: float, *, level: float = 0.95) -> Reliance:
    """The smallest threshold from which on answers reach a precision by a lower bound, not as it happened to turn out.

    Args:
        confidence: the probability of each row's answer (n,).
        right: whether it was right (n,).
        precision: the share of right answers wanted.
        level: of the one-sided bound that has to reach it. It is that of each threshold alone, and the smallest of many
            is chosen; in simulations with 200 to 2,000 rows 3 to 6 of 100 choices fell short, by about 0.01 with 200.

    Raises:
        UsageError: a precision that is no share.
        DataError: no rows.
    """
    check_share(precision)
    sure, hit = np.asarray(confidence, dtype=np.float64), np.asarray(right, dtype=bool)
    if not len(sure):
        raise DataError("no rows to choose a threshold on")
    order = np.argsort(-sure, kind="stable")
    last = np.flatnonzero(np.append(np.diff(sure[order]) != 0, True))  # rows of one probability stay together
    count, hits = last + 1, np.cumsum(hit[order])[last]
    low = np.where(hits > 0, betaincinv(np.maximum(hits, 1), count - hits + 1, 1 - level), 0.0)
    enough = np.flatnonzero(low >= precision)
    place = int(enough[-1]) if len(enough) else int(np.argmax(low))
    return Reliance(
        threshold=float(np.floor(sure[order][last[place]] * 1e6) / 1e6),
        wanted=precision,
        reached=bool(len(enough)),
        precision=float(hits[place] / count[place]),
        low=float(low[place]),
        coverage=float(count[place] / len(sure)),
        rows=len(sure),
    )


def check_share(precision: float) -> None:
    """Refuse a precision that is no share.

    Raises:
        UsageError: it does not lie between 0 and 1.
    """
    if not 0 < precision < 1:
        raise UsageError(f"precision is {precision}, expected a share between 0 and 1, as in 0.95")


def answered(confidence: Array, right: Array, threshold: float) -> dict[str, Interval]:
    """How many rows are answered at a threshold, and how many of these rightly; without any, the second is left out."""
    given = np.asarray(confidence, dtype=np.float64) >= threshold
    count, hits = int(given.sum()), int((np.asarray(right, dtype=bool) & given).sum())
    scores = {"coverage": wilson(count, len(given))}
    return scores | ({"answered_precision": wilson(hits, count)} if count else {})
