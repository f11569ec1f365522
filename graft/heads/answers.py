"""Answers: what people and programs are told about one input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a model says about one input. Fields that do not apply are None.

    Attributes:
        label: the most probable label.
        probability: its probability.
        probabilities: probability of every label.
        labels: every label whose probability is at least one half, where several may hold at once.
        score: the predicted number (similarity, regression, how well a choice fits).
        embedding: the input as a vector of numbers.
        text: what the model wrote.
        truncated_tokens: tokens of the input that did not fit the model and were not read.
        windows: how many windows the input was read in, for models that read long texts so.
        abstained: whether the model is less sure than it was told to be (`graft finetune --precision`), for models that
            were: the label is its guess, not to be relied on.
    """

    label: str | None = None
    probability: float | None = None
    probabilities: Mapping[str, float] | None = None
    labels: tuple[str, ...] | None = None
    score: float | None = None
    embedding: tuple[float, ...] | None = None
    text: str | None = None
    truncated_tokens: int = 0
    windows: int | None = None
    abstained: bool | None = None

    def as_dict(self) -> dict[str, Any]:
        """The fields that apply, ready for JSON."""
        fields = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {name: value for name, value in fields.items() if value is not None}
