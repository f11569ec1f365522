"""The sentences a text turns on: those its other sentences are most like, found by their embeddings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from graft.grafted import Model
from graft.text.sentences import sentences

Rows: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

DAMPING = 0.85
ROUNDS, NEAR = 100, 1e-9


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of a text, and what share of the text's centrality is its own."""

    text: str
    start: int
    end: int
    score: float


def centrality(vectors_ND: Rows) -> Rows:
    """How central each of some vectors is, (N,), summing to 1.

    LexRank (Erkan & Radev 2004, equation 3) with cosines as weights of the edges, none below 0 and none from a sentence
    to itself: the share of time a reader spends at each who goes from one sentence to the next by how alike they are.
    """
    number = len(vectors_ND)
    unit_ND = vectors_ND / np.maximum(np.linalg.norm(vectors_ND, axis=1, keepdims=True), 1e-12)
    edges_NN = np.clip(unit_ND @ unit_ND.T, 0.0, None)
    np.fill_diagonal(edges_NN, 0.0)
    sums_N1 = edges_NN.sum(1, keepdims=True)
    steps_NN = np.where(sums_N1 > 0, edges_NN / np.maximum(sums_N1, 1e-12), 1.0 / number)
    ranks_N: Rows = np.full(number, 1.0 / number)
    for _ in range(ROUNDS):
        before_N, ranks_N = ranks_N, (1 - DAMPING) / number + DAMPING * (ranks_N @ steps_NN)
        if np.abs(ranks_N - before_N).max() < NEAR:
            break
    return ranks_N
