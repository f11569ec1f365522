"""Classification without any labelled row: the label whose name lies nearest to the text in the embedding space."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from graft.errors import UsageError
from graft.grafted import Model
from graft.heads import Answer
from graft.inference import Progress, told

TEMPLATE = "This text is about {}."
TEMPERATURE = 0.05
"""Cosines are divided by this before the softmax; contrastive encoders are trained at about this temperature."""


class ZeroShot:
    """A classifier made from label names alone. Its probabilities order the labels; they are not calibrated."""

    def __init__(self, model: Model, labels: Sequence[str], template: str = TEMPLATE) -> None:
        """Embed the label names.

        Args:
            model: an embedding model.
            labels: at least two different names; underscores count as spaces.
            template: a sentence with ``{}`` in the label's place.

        Raises:
            UsageError: fewer than two labels, the same one twice, or a template without its place.
        """
        if len(labels) < 2 or len(set(labels)) != len(labels) or not all(label.strip() for label in labels):
            raise UsageError(
                f"zero-shot needs at least two different label names, found: {', '.join(labels) or 'none'}"
            )
        if template.count("{}") != 1:
            raise UsageError(f"the template {template!r} needs exactly one {{}} for the label's name")
        self.model, self.labels = model, tuple(labels)
        self._anchors_CD = _unit(model.embed([template.replace("{}", _words(label)) for label in labels]))

    def probabilities(
        self, texts: Sequence[str], progress: Progress | None = None
    ) -> np.ndarray[Any, np.dtype[np.float64]]:
        """Softmax of the cosines between texts and label names, (n, C)."""
        cosines = _unit(self.model.embed(texts, progress)).astype(np.float64) @ self._anchors_CD.T / TEMPERATURE
        raised = np.exp(cosines - cosines.max(axis=1, keepdims=True))
        shares: np.ndarray[Any, np.dtype[np.float64]] = raised / raised.sum(axis=1, keepdims=True)
        return shares

    def answer(self, texts: Sequence[str], progress: Progress | None = None) -> list[Answer]:
        """One answer a text."""
        how = told(self.model.windows(texts), self.model.settings)
        answers = []
        for row, one in zip(self.probabilities(texts, progress).tolist(), how, strict=True):
            best = int(np.argmax(row))
            by_name = dict(zip(self.labels, row, strict=True))
            answers.append(
                Answer(
                    label=self.labels[best],
                    probability=row[best],
                    probabilities=by_name,
                    **one,
                )
            )
        return answers


def _words(label: str) -> str:
    return label.replace("_", " ").replace("-", " ").strip()


def _unit(rows: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    lengths = np.linalg.norm(rows, axis=1, keepdims=True)
    unit: np.ndarray[Any, Any] = rows / np.maximum(lengths, 1e-12)
    return unit
