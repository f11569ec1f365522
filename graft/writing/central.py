"""The sentences a text turns on: those its other sentences are most like, found by their embeddings."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, TypeAlias

import numpy as np

from graft.errors import DataError
from graft.grafted import Model
from graft.heads import Answer
from graft.inference import Progress, in_step, told
from graft.text.sentences import sentences
from graft.writing.length import Length
from graft.writing.vocabulary import Vocabulary

Rows: TypeAlias = np.ndarray[Any, np.dtype[np.float64]]

DAMPING = 0.85
ROUNDS, NEAR = 100, 1e-9
_ENDS, _CLOSING = (*".!?…。！？",), "\"'”’»)]」』"


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


def chosen(rows: list[Sentence], count: int, length: Length, skip: int = 0) -> tuple[list[Sentence], str]:
    """The most central sentences in the order of the text, as many as asked for and as fit, and what was cut.

    Where a limit leaves no room for any of them whole, the most central is cut.

    Args:
        rows: of one text.
        count: the most there may be.
        length: the most they may have together.
        skip: so many of the most central are passed over: another summary has them.
    """
    ranked = sorted((one for one in rows if one.score > 0), key=lambda one: (-one.score, one.start))[skip:]
    kept: list[Sentence] = []
    for one in ranked:
        if len(kept) < count and length.fits(joined([*kept, one])):
            kept.append(one)
    if kept or not ranked:
        return sorted(kept, key=lambda one: one.start), ""
    text, told = length.fitted(ranked[0].text)
    return [replace(ranked[0], text=text, end=ranked[0].start + len(text))], told


def joined(rows: list[Sentence]) -> str:
    """Sentences as one text, in their order."""
    return " ".join(" ".join(one.text.split()) for one in sorted(rows, key=lambda one: one.start))


def extracted(model: Model, texts: list[str], progress: Progress | None = None) -> list[tuple[list[Sentence], int]]:
    """The sentences of each text with their centrality, in order, and how many of their tokens were not read.

    Lines that end without a mark (headings) are part of the comparison, yet score 0, unless there is nothing else.

    Raises:
        DataError: a text without a sentence.
    """
    spans = [sentences(text) for text in texts]
    for number, found in enumerate(spans):
        if not found:
            raise DataError(f"text {number} (counting from 0) is empty, expected at least one sentence")
    flat = [text[start:end] for text, own in zip(texts, spans, strict=True) for start, end in own]
    vectors_ND = model.embed(flat, in_step(progress, len(texts), len(flat))).astype(np.float64)
    cut = [one["truncated_tokens"] for one in told(model.windows(flat), model.settings)]
    made, place = [], 0
    for text, own in zip(texts, spans, strict=True):
        ranks_N = centrality(vectors_ND[place : place + len(own)])
        marked = np.array([text[start:end].rstrip(_CLOSING)[-1:] in _ENDS for start, end in own])
        ranks_N = np.where(marked, ranks_N, 0.0) if marked.any() else ranks_N
        rows = [Sentence(text[a:b], a, b, float(score)) for (a, b), score in zip(own, ranks_N, strict=True)]
        made.append((rows, sum(cut[place : place + len(own)])))
        place += len(own)
    return made


def picked(
    model: Model,
    texts: list[str],
    n: int,
    count: int,
    length: Length,
    vocabulary: Vocabulary | None = None,
    progress: Progress | None = None,
) -> list[Answer]:
    """Each text's most central sentences as its summary; alternatives are made of the next ones."""
    made = []
    for rows, cut in extracted(model, texts, progress):
        every = [chosen(rows, count, length, skip=number * count) for number in range(n)]
        first, *others = (_answer(kept, told, vocabulary) for kept, told in every if kept)
        made.append(replace(first, alternatives=tuple(others) or None, truncated_tokens=cut))
    return made


def _answer(kept: list[Sentence], told: str, vocabulary: Vocabulary | None) -> Answer:
    text = joined(kept)
    return Answer(
        text=text,
        score=sum(one.score for one in kept),
        spans=tuple((one.start, one.end) for one in kept),
        unlisted=None if vocabulary is None else vocabulary.outside(text),
        notes=(told,) if told else None,
    )
