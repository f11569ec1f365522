"""Scores of tagged sentences: entities found, and words tagged rightly.

| name | definition |
|---|---|
| precision | share of the entities answered that are right: the same words, the same type |
| recall | share of the labelled entities that are answered so |
| f1 | their harmonic mean over all types together (micro), as in CoNLL-2003's own script and seqeval |
| f1_TYPE | the same of one type |
| accuracy | share of the words whose tag is right, O included |

Intervals come from the bootstrap over sentences, since the words of one sentence stand and fall together. Precision and
recall are 0 where they are 0 / 0 and the other is not; where no entity is labelled or answered there is none of them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

import numpy as np
from scipy import sparse

from graft.errors import DataError
from graft.evaluate.intervals import Floats, Interval, Measure, bootstrap
from graft.evaluate.row_statistics import divide
from graft.text.tag_schemes import Scheme, Span

Labels = Sequence[Sequence[int]]
"""Label numbers of each word of each sentence."""


def tagging(
    target: Labels, given: Labels, scheme: Scheme, *, resamples: int = 1000, seed: int = 0, level: float = 0.95
) -> dict[str, Interval]:
    """Score tagged sentences.

    Args:
        target: the right label numbers.
        given: the answers.
        scheme: how labels spell entities.
        resamples: bootstrap samples.
        seed: of the bootstrap.
        level: share of intervals that should hold the true score.

    Returns:
        f1, precision, recall, accuracy and f1_TYPE of every type; only accuracy where tags spell no entities.

    Raises:
        DataError: no sentences, or answers that do not fit them.
    """
    if [len(one) for one in target] != [len(one) for one in given]:
        raise DataError(f"expected an answer for each word of {len(target)} sentences, found others")
    types = scheme.types if scheme.entities else []
    spell = scheme.spans if scheme.entities else lambda labels: []
    spans = [(spell(true), spell(found)) for true, found in zip(target, given, strict=True)]
    right = [[a == b for a, b in zip(true, found, strict=True)] for true, found in zip(target, given, strict=True)]
    measure = _measure(spans, [[sum(one), len(one)] for one in right], types)
    names = ["f1", "precision", "recall", "accuracy", *(f"f1_{label}" for label in types)]
    bounds = dict.fromkeys(names, (0.0, 1.0))
    return bootstrap(measure, len(target), bounds=bounds, resamples=resamples, seed=seed, level=level)


def _measure(
    spans: Sequence[tuple[list[Span], list[Span]]], words: Sequence[Sequence[int]], types: Sequence[str]
) -> Measure:
    counted = [(set(true) & set(found), found, true) for true, found in spans]
    parts = [_counts([sentence[kind] for sentence in counted], types) for kind in range(3)]
    statistics = sparse.hstack([*parts, sparse.csr_array(np.array(words, dtype=np.float64).reshape(-1, 2))]).tocsr()
    cuts = np.cumsum([len(types)] * 3)

    def measure(counts: Floats) -> dict[str, Floats]:
        hits, found, true, right = np.split(counts @ statistics, cuts, axis=1)
        scores = {"accuracy": divide(right[:, 0], right[:, 1])}
        if types:
            hit, claimed, labelled = (part.sum(1) for part in (hits, found, true))
            some = claimed + labelled > 0
            scores |= {
                "f1": divide(2 * hit, claimed + labelled),
                "precision": np.where(some, hit / np.maximum(claimed, 1), np.nan),
                "recall": np.where(some, hit / np.maximum(labelled, 1), np.nan),
            }
            scores |= {f"f1_{label}": each for label, each in zip(types, divide(2 * hits, found + true).T, strict=True)}
        order = ["f1", "precision", "recall", "accuracy", *(f"f1_{label}" for label in types)]
        return {name: scores[name] for name in order if name in scores}

    return measure


def _counts(spans: Sequence[Iterable[Span]], types: Sequence[str]) -> sparse.csr_array:
    """How many entities of each type each sentence has: (sentences, types)."""
    places = {label: number for number, label in enumerate(types)}
    cells = Counter((row, places[one.label]) for row, sentence in enumerate(spans) for one in sentence)
    values = np.array(list(cells.values()), dtype=np.float64)
    rows, columns = np.array(list(cells), dtype=np.int64).reshape(-1, 2).T
    return sparse.csr_array((values, (rows, columns)), shape=(len(spans), len(types)))
