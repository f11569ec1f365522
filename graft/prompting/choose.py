"""Which worked examples a prompt shows."""

from __future__ import annotations

import random
from collections.abc import Sequence

import numpy as np

from graft.errors import UsageError
from graft.grafted import Model
from graft.inference import Progress
from graft.sealed import Text


def balanced(labels: Sequence[str], shots: int, seed: int) -> list[int]:
    """So many rows drawn at random, the labels in turn, in random order.

    Raises:
        UsageError: there are fewer rows.

    >>> sorted(balanced(["a", "a", "a", "a", "b"], 3, seed=0))[-1]
    4
    """
    if shots > len(labels):
        raise UsageError(f"shots is {shots}, and there are {len(labels)} rows to show; ask for at most so many")
    drawn = random.Random(seed)
    order = drawn.sample(range(len(labels)), len(labels))
    waiting = {label: [index for index in order if labels[index] == label] for label in sorted(set(labels))}
    names = drawn.sample(list(waiting), len(waiting))
    chosen: list[int] = []
    while len(chosen) < shots:
        for name in names:
            if waiting[name] and len(chosen) < shots:
                chosen.append(waiting[name].pop())
    return drawn.sample(chosen, len(chosen))


class Neighbours:
    """Rows to choose from, embedded once."""

    def __init__(self, encoder: Model, texts: Sequence[Text]) -> None:
        """Embed the rows; what the encoder's limit cuts off plays no part in the choice."""
        self.encoder, self.texts = encoder, list(texts)
        self._rows_ND = encoder.embed(self.texts)

    def nearest(self, texts: Sequence[Text], count: int, progress: Progress | None = None) -> list[list[int]]:
        """For each text so many rows by cosine (Liu et al. 2022), the nearest last; the text itself is never one."""
        cosines = self.encoder.embed(texts, progress) @ self._rows_ND.T
        own = np.array([[text == row for row in self.texts] for text in texts], dtype=bool).reshape(cosines.shape)
        order = np.argsort(np.where(own, -np.inf, cosines), axis=1, kind="stable")
        kept = [[int(index) for index in row if not own[place, index]] for place, row in enumerate(order)]
        return [row[-count:] if count else [] for row in kept]
