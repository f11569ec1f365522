"""What a written text shares with the one it should be: ROUGE (Lin 2004) and chrF (Popovic 2015).

| name | definition |
|---|---|
| rouge1, rouge2 | mean over rows of the F1 of shared words, and pairs of words; lower case, letters and digits only |
| rougeL | mean over rows of the F1 of the longest common subsequence of words |
| chrf | F2 of shared strings of 1 to 6 characters, spaces aside, summed over all rows; 0 to 100 as is usual |
| exact | share of rows written exactly, spaces at the ends aside |

Without stemming. rouge_score and sacrebleu give the same values (tests compare); the intervals are a bootstrap over
rows, see `graft.evaluate.intervals`.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from graft.errors import DataError
from graft.evaluate.intervals import Floats, Interval, bootstrap

BOUNDS = {"rouge1": (0.0, 1.0), "rouge2": (0.0, 1.0), "rougeL": (0.0, 1.0), "chrf": (0.0, 100.0), "exact": (0.0, 1.0)}
ORDER, BETA = 6, 2.0
"""Longest strings of characters counted by chrF, and how much more recall weighs there than precision."""


def written(
    targets: Sequence[str], texts: Sequence[str], *, resamples: int = 1000, seed: int = 0
) -> dict[str, Interval]:
    """Score texts against what they should be.

    Args:
        targets: what should have been written.
        texts: what was, as many.
        resamples: bootstrap samples.
        seed: of the bootstrap.

    Raises:
        DataError: no rows, or not as many texts as targets.
    """
    if len(targets) != len(texts):
        raise DataError(f"{len(texts)} texts for {len(targets)} targets; expected one for each")
    rows = [_row(target, text) for target, text in zip(targets, texts, strict=True)]
    means, counts = np.array([means for means, _ in rows]), np.array([counts for _, counts in rows])

    def measure(weights: Floats) -> dict[str, Floats]:
        mean = weights @ means / weights.sum(1, keepdims=True)
        names = ("rouge1", "rouge2", "rougeL", "exact")
        return {name: mean[:, column] for column, name in enumerate(names)} | {"chrf": _chrf(weights @ counts)}

    return bootstrap(measure, len(rows), bounds=BOUNDS, resamples=resamples, seed=seed)


def words(text: str) -> list[str]:
    """Lower-cased runs of letters and digits, as ROUGE counts them."""
    return re.findall(r"[a-z0-9]+", text.lower())


def _row(target: str, text: str) -> tuple[list[float], list[float]]:
    """A row's own scores, and what it adds to chrF's counts."""
    wanted, given = words(target), words(text)
    means = [_f1(_grams(wanted, size), _grams(given, size)) for size in (1, 2)]
    common = _longest_common(wanted, given)
    means += [_harmonic(common, len(wanted), len(given)), float(target.strip() == text.strip())]
    signs = ["".join(one.split()) for one in (target, text)]
    counts: list[float] = []
    for size in range(1, ORDER + 1):
        there, here = (_grams(list(one), size) for one in signs)
        # As sacrebleu: the hypothesis' strings of an order the reference is too short for do not count.
        counts += [(there & here).total(), there.total(), here.total() if there else 0]
    return means, counts


def _grams(units: Sequence[str], size: int) -> Counter[tuple[str, ...]]:
    return Counter(tuple(units[start : start + size]) for start in range(len(units) - size + 1))


def _f1(wanted: Counter[tuple[str, ...]], given: Counter[tuple[str, ...]]) -> float:
    return _harmonic((wanted & given).total(), wanted.total(), given.total())


def _harmonic(shared: int, wanted: int, given: int) -> float:
    return 2 * shared / (wanted + given) if shared else 0.0


def _longest_common(first: Sequence[str], second: Sequence[str]) -> int:
    """Length of the longest common subsequence."""
    row = [0] * (len(second) + 1)
    for one in first:
        corner = 0
        for place, other in enumerate(second, 1):
            corner, row[place] = row[place], corner + 1 if one == other else max(row[place], row[place - 1])
    return row[-1]


def _chrf(sums: Floats) -> Floats:
    """F of the mean precision and recall over the orders that occur, (R, 3 x ORDER) -> (R,)."""
    shared, wanted, given = (sums[:, part::3] for part in range(3))
    occurs = (wanted > 0) & (given > 0)
    orders = np.maximum(occurs.sum(1), 1)
    precision = (np.where(occurs, shared / np.maximum(given, 1), 0)).sum(1) / orders
    recall = (np.where(occurs, shared / np.maximum(wanted, 1), 0)).sum(1) / orders
    bottom = BETA**2 * precision + recall
    shares: Floats = np.divide((1 + BETA**2) * precision * recall, bottom, out=np.zeros_like(bottom), where=bottom > 0)
    return 100 * shares
