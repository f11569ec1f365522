"""How sure a score is: Wilson's interval for shares of rows, the bootstrap over rows for everything else.

A bootstrap draws as many rows as there are, with replacement, and scores them, many times; the middle 95 % of those
scores is the percentile interval (Efron 1979). Here it is moved so that the draws' mean falls on the score itself, as
some scores lean: macro F1 does when rare labels are missing from a draw.

It has one blind spot: where every draw scores alike, as when every answer is right, it has no width and claims
certainty. Then the interval is widened as Wilson's (1927) would be: of n rows that all behave alike, a share of up to
z²/(n + z²) of all rows may still behave otherwise, at worst as badly as the score allows. So one row that is right
gives an accuracy of 1.0 [0.21, 1.0], not [1.0, 1.0].
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from graft.errors import DataError, UsageError

Floats: TypeAlias = npt.NDArray[np.float64]
Measure: TypeAlias = Callable[[Floats], dict[str, Floats]]
"""Counts of rows (R resamples, n rows) -> the scores of each resample by name, each (R,); NaN where undefined."""

CELLS = 2_000_000
"""Counts held at once while resampling (16 MB)."""


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A score with the interval that holds the true one at the stated level (95 % unless told otherwise).

    Raises:
        DataError: a number is not finite, or not low <= value <= high.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        finite = all(math.isfinite(number) for number in (self.value, self.low, self.high))
        if not finite or not self.low <= self.value <= self.high:
            raise DataError(
                f"an interval needs finite numbers in the order low <= value <= high, found low {self.low}, "
                f"value {self.value}, high {self.high}. Were the model's outputs finite?"
            )

    def as_dict(self) -> dict[str, float]:
        """Give the three numbers in full, fit for JSON."""
        return {"value": self.value, "low": self.low, "high": self.high}

    def __str__(self) -> str:
        return f"{self.value:.3f} [{self.low:.3f}, {self.high:.3f}]"


def check_settings(n: int, resamples: int, level: float) -> None:
    """Refuse what no interval can be made of.

    Raises:
        DataError: there are no rows.
        UsageError: fewer than one resample, or a level outside (0, 1).
    """
    if n < 1:
        raise DataError("no rows to score: found 0, expected at least 1. Give a file with rows, or a larger test share")
    if resamples < 1:
        raise UsageError(f"resamples must be at least 1, found {resamples}. 1,000 is usual")
    if not 0 < level < 1:
        raise UsageError(f"level must lie between 0 and 1, found {level}. 0.95 is usual")


def wilson(right: int, n: int, *, level: float = 0.95) -> Interval:
    """Score interval for a share of rows, right of n (Wilson 1927); holds up near 0 and 1, where a bootstrap does not.

    >>> str(wilson(20, 20))
    '1.000 [0.839, 1.000]'
    """
    check_settings(n, 1, level)
    # By hand, as scipy.stats alone would double the time it takes to import this module; a test compares them.
    share, square = right / n, NormalDist().inv_cdf((1 + level) / 2) ** 2
    middle = (right + square / 2) / (n + square)
    half = math.sqrt(square * (n * share * (1 - share) + square / 4)) / (n + square)
    low, high = max(middle - half, 0.0), min(middle + half, 1.0)
    return Interval(value=share, low=min(low, share), high=max(high, share))


def unseen_share(n: int, *, level: float = 0.95) -> float:
    """Largest share of all rows that may behave otherwise where all n rows behave alike: z²/(n + z²)."""
    return 1.0 - wilson(n, n, level=level).low


def resample(measure: Measure, n: int, *, resamples: int, seed: int) -> dict[str, Floats]:
    """Score bootstrap samples of n rows; the same n and seed always give the same samples, so results can be paired.

    Args:
        measure: see ``Measure``.
        n: rows.
        resamples: samples drawn.
        seed: of the draws.

    Returns:
        name -> scores (resamples,).
    """
    generator = np.random.default_rng(seed)
    at_once = max(1, CELLS // n)
    parts = [measure(_counts(generator, min(at_once, resamples - done), n)) for done in range(0, resamples, at_once)]
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _counts(generator: np.random.Generator, samples: int, n: int) -> Floats:
    """How often each sample holds each row: (samples, n)."""
    drawn = generator.integers(0, n, size=(samples, n))
    drawn += np.arange(samples)[:, None] * n
    counted: npt.NDArray[np.int64] = np.bincount(drawn.ravel(), minlength=samples * n)
    return counted.reshape(samples, n).astype(np.float64)


def percentile(value: float, draws: Floats, *, n: int, bounds: tuple[float, float], level: float = 0.95) -> Interval:
    """Turn the scores of resamples into an interval.

    Args:
        value: score of the rows as they are.
        draws: scores of the resamples; NaN (a resample on which the score is undefined) is left out.
        n: rows.
        bounds: worst and best the score can be, in numerical order; used where all draws agree (see the module).
        level: share of intervals that should hold the true score.
    """
    kept = draws[np.isfinite(draws)]
    if kept.size == 0 or np.ptp(kept) <= 1e-12 * max(1.0, abs(value)):
        share = unseen_share(n, level=level)
        low, high = value - share * (value - bounds[0]), value + share * (bounds[1] - value)
    else:
        low, high = np.quantile(kept, [(1 - level) / 2, (1 + level) / 2]) - (kept.mean() - value)
    low, high = max(float(low), bounds[0]), min(float(high), bounds[1])
    return Interval(value=value, low=min(low, value), high=max(high, value))


def bootstrap(
    measure: Measure,
    n: int,
    *,
    bounds: dict[str, tuple[float, float]],
    resamples: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> dict[str, Interval]:
    """Score n rows, with an interval for each score; one whose value is undefined (NaN) is left out.

    For scores of your own: let ``measure`` weight the rows by their counts, most often ``counts @ per_row``.

    Args:
        measure: see ``Measure``.
        n: rows.
        bounds: name -> the least and the greatest the score can be.
        resamples: bootstrap samples.
        seed: of the bootstrap.
        level: share of intervals that should hold the true score.

    Raises:
        DataError: there are no rows.
        UsageError: resamples or level out of range.

    >>> right = np.array([1.0, 0.0, 1.0, 1.0])
    >>> found = bootstrap(lambda counts: {"share": counts @ right / 4}, 4, bounds={"share": (0.0, 1.0)})
    >>> str(found["share"])
    '0.750 [0.246, 0.996]'
    """
    check_settings(n, resamples, level)
    values = measure(np.ones((1, n)))
    draws = resample(measure, n, resamples=resamples, seed=seed)
    return {
        name: percentile(float(value[0]), draws[name], n=n, bounds=bounds[name], level=level)
        for name, value in values.items()
        if np.isfinite(value[0])
    }
