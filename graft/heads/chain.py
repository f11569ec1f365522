"""Labels in a row of which some may not follow one another: the best legal sequence, and how probable its parts are.

The words' label probabilities are taken as they are, illegal sequences are ruled out, and what is left is made to sum
to one: a conditional random field whose transitions are 0 or minus infinity (Lafferty et al. 2001). The best sequence
is Viterbi's (1967), the probabilities come from the forward and backward sums (Rabiner 1989, equations 19 to 25).

Letters: B sentences of equally many words N; C labels, as everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]


class Chain(Protocol):
    """Which labels may begin, end, and follow one another (down: the one before)."""

    @property
    def start_C(self) -> Flags:
        """Labels that may begin."""

    @property
    def end_C(self) -> Flags:
        """Labels that may end."""

    @property
    def legal_CC(self) -> Flags:
        """Labels (across) that may follow a label (down)."""

    @property
    def continues_CC(self) -> Flags:
        """Labels (across) that belong to the same entity as the label before (down)."""


def best(logs_BNC: Floats, chain: Chain) -> npt.NDArray[np.int64]:
    """The most probable legal sequence of each sentence, (B, N); of equals, the labels that come first.

    Args:
        logs_BNC: the logarithm of each word's label probabilities; finite.
        chain: with at least one legal sequence of this length.
    """
    legal_CC = log(chain.legal_CC)
    score_BC = logs_BNC[:, 0] + log(chain.start_C)
    back = []
    for place in range(1, logs_BNC.shape[1]):
        through_BCC = score_BC[:, :, None] + legal_CC
        back.append(through_BCC.argmax(1))
        score_BC = through_BCC.max(1) + logs_BNC[:, place]
    path = [(score_BC + log(chain.end_C)).argmax(1)]
    rows = np.arange(len(logs_BNC))
    for before in reversed(back):
        path.append(before[rows, path[-1]])
    return np.stack(path[::-1], axis=1)


def best_of(logs: Sequence[Floats], chain: Chain) -> list[list[int]]:
    """The same for sentences of any lengths, (words, C) each; none for a sentence without words."""
    found: list[list[int]] = [[] for _ in logs]
    for numbers, logs_BNC in alike(logs):
        for number, path in zip(numbers, best(logs_BNC, chain).tolist(), strict=True):
            found[number] = path
    return found


def alike(logs: Sequence[Floats]) -> Iterator[tuple[list[int], Floats]]:
    """Sentences of equally many words together, with their numbers; those without words are left out."""
    groups: dict[int, list[int]] = {}
    for number, one in enumerate(logs):
        groups.setdefault(len(one), []).append(number)
    for length, numbers in groups.items():
        if length:
            yield numbers, np.stack([logs[number] for number in numbers])


def sums(logs_BNC: Floats, chain: Chain) -> tuple[Floats, Floats]:
    """Forward and backward sums, both (B, N, C), as logarithms.

    Forward: of all legal beginnings that end in this label of this word. Backward: of all legal ends after it.
    """
    legal_CC = log(chain.legal_CC)
    forward, backward = np.empty_like(logs_BNC), np.empty_like(logs_BNC)
    last = logs_BNC.shape[1] - 1
    forward[:, 0], backward[:, last] = logs_BNC[:, 0] + log(chain.start_C), log(chain.end_C)
    for place in range(last):
        forward[:, place + 1] = logs_BNC[:, place + 1] + _sum(forward[:, place, :, None] + legal_CC, 1)
    for place in range(last, 0, -1):
        after_BC = backward[:, place] + logs_BNC[:, place]
        backward[:, place - 1] = _sum(legal_CC + after_BC[:, None, :], 2)
    return forward, backward


def marginals(forward_BNC: Floats, backward_BNC: Floats) -> Floats:
    """Probability of each label of each word among all legal sequences, (B, N, C)."""
    joint = forward_BNC + backward_BNC
    return np.exp(joint - _sum(joint, 2)[..., None])


def entity(
    logs_NC: Floats, forward_NC: Floats, backward_NC: Floats, chain: Chain, labels: Sequence[int], first: int
) -> float:
    """Probability, among all legal sequences, that exactly these words are an entity of these labels.

    Args:
        logs_NC: one sentence's.
        forward_NC: see `sums`.
        backward_NC: see `sums`.
        chain: the rules.
        labels: of the entity's words.
        first: its first word.
    """
    apart_CC, end = log(chain.legal_CC & ~chain.continues_CC), first + len(labels)
    into, out = labels[0], labels[-1]
    total = float(logs_NC[np.arange(first, end), labels].sum())
    total += float(_sum(forward_NC[first - 1] + apart_CC[:, into], 0) if first else log(chain.start_C)[into])
    if end == len(logs_NC):
        total += float(log(chain.end_C)[out])
    else:
        total += float(_sum(apart_CC[out] + logs_NC[end] + backward_NC[end], 0))
    return float(np.exp(min(0.0, total - float(_sum(forward_NC[-1] + log(chain.end_C), 0)))))


def log(flags: Flags) -> Floats:
    """0 where something may be, minus infinity where it may not."""
    return np.where(flags, 0.0, -np.inf)


def _sum(logs: Floats, axis: int) -> Floats:
    """Logarithm of the sum of what the logarithms stand for; minus infinity where nothing is left."""
    highest = np.maximum(logs.max(axis), -1e300)
    with np.errstate(divide="ignore"):
        total: Floats = np.log(np.exp(logs - np.expand_dims(highest, axis)).sum(axis)) + highest
    return total
