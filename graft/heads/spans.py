"""From what a Span head gives for the windows of one text to the most probable spans of the whole text.

A span's score is its start's logit plus its end's; a span that several windows hold has the best of its scores. "No
answer" has the lowest score that any window gives it, since one window that holds the answer is enough (Devlin et al.
2019). Probabilities are over all spans of the text up to the longest allowed, and "no answer".
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Part:
    """What of a text one window shows: tokens start to end, from the window's place `first` on, and "no answer"'s."""

    first: int
    start: int
    end: int
    none: int


@dataclass(frozen=True, slots=True)
class Ranked:
    """A span, as its first and last token in the text."""

    first: int
    last: int
    probability: float


def rank(outputs: Sequence[Tensor], parts: Sequence[Part], *, longest: int, n: int) -> tuple[list[Ranked], float]:
    """The n best spans, best first, and the probability that there is no answer.

    Args:
        outputs: (length, 2) of each window, logits of start and end.
        parts: what each window shows; together every token of the text.
        longest: most tokens of a span.
        n: how many to give; fewer where there are fewer.
    """
    tokens = max(part.end for part in parts)
    width = min(longest, tokens)
    best = torch.full((tokens, width), float("-inf"), dtype=torch.float64)
    none = torch.tensor(float("inf"), dtype=torch.float64)
    for output, part in zip(outputs, parts, strict=True):
        logits = output.double()
        shown = logits[part.first : part.first + part.end - part.start]
        ends = torch.nn.functional.pad(shown[:, 1], (0, width - 1), value=float("-inf")).unfold(0, width, 1)
        rows = slice(part.start, part.end)
        best[rows] = torch.maximum(best[rows], shown[:, :1] + ends)
        none = torch.minimum(none, logits[part.none].sum())
    scores = best.flatten()
    whole = torch.logsumexp(torch.cat([scores, none[None]]), 0)
    values, places = scores.topk(min(n, len(scores)))
    found = [
        Ranked(place // width, place // width + place % width, probability)
        for place, probability in zip(places.tolist(), (values - whole).exp().tolist(), strict=True)
        if scores[place] != float("-inf")  # else no window holds it
    ]
    return found, float((none - whole).exp())
