"""Which words set two bodies of text apart: log-odds ratios with an informative Dirichlet prior.

Monroe, Colaresi & Quinn 2008, "Fightin' Words", section 3.5.1. A plain ratio of frequencies favours words that occur
once or twice; a difference favours "the". Here the counts of each side are drawn towards what the prior says of a word
(equation 16), and the difference of the log-odds is divided by its standard deviation (equations 19 to 22).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

SIGNIFICANT = 1.96
"""Beyond this a z-score by itself is one that chance gives in one word of twenty."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Contrasted:
    """One word, or several in a row.

    Attributes:
        word: the word.
        counts: how often each side has it.
        per_million: the same for each million words of that side.
        log_odds: the logarithm of the ratio of its odds in the first to those in the second, with the prior.
        z: that, divided by its standard deviation: above 0 it speaks for the first side.
    """

    word: str
    counts: tuple[int, int]
    per_million: tuple[float, float]
    log_odds: float
    z: float

    @property
    def deviation(self) -> float:
        """The standard deviation of the log-odds ratio."""
        return self.log_odds / self.z if self.z else 0.0


def log_odds(
    first: Mapping[str, int], second: Mapping[str, int], prior: Mapping[str, float], size: float
) -> list[Contrasted]:
    """Compare the counts of two sides, the words that speak most for the first side first.

    Args:
        first: count by word.
        second: count by word.
        prior: how frequent each of these words is in general, above 0; only the shares of the whole count.
        size: how many words of text the prior weighs as much as (the paper's alpha 0).
    """
    words = sorted({*first, *second})
    whole = math.fsum(prior[word] for word in words)
    totals = (sum(first.values()), sum(second.values()))
    found = []
    for word in words:
        alpha, counts = size * prior[word] / whole, (first.get(word, 0), second.get(word, 0))
        odds = [
            math.log((count + alpha) / (total + size - count - alpha))
            for count, total in zip(counts, totals, strict=True)
        ]
        difference, variance = odds[0] - odds[1], sum(1 / (count + alpha) for count in counts)
        rates = [1e6 * count / total if total else 0.0 for count, total in zip(counts, totals, strict=True)]
        found.append(
            Contrasted(
                word=word,
                counts=counts,
                per_million=(rates[0], rates[1]),
                log_odds=difference,
                z=difference / math.sqrt(variance),
            )
        )
    return sorted(found, key=lambda one: (-one.z, one.word))
