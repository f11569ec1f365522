"""What every system of transfer.py is given, and what it hands back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from data_sets import DataSet

BATCH = 32
LORA = {"rank": 8, "alpha": 16, "targets": ("query", "value"), "rate": 5e-4}
"""Both sides' settings; dropout is 0, and the head learns whole."""


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """One whole run, from the files to answers.

    Attributes:
        data: what kind of rows they are.
        folder: the encoder.
        train: rows to learn from.
        test: rows to answer.
        seed: of everything random.
        epochs: times through the rows; None leaves them to the data set.
    """

    data: DataSet
    folder: Path
    train: Path
    test: Path
    seed: int
    epochs: int | None

    @property
    def times(self) -> int:
        return self.data.epochs if self.epochs is None else self.epochs


@dataclass(frozen=True, kw_only=True)
class Done:
    """What came of a run.

    Attributes:
        answers: one for each test row: a label, a number, tags, a text.
        training_seconds: from the first batch to the last update, by the system's own clock; for a probe: embedding the
            training rows and fitting.
        whole_seconds: from the files (model, rows) to a saved model and answers, tokenising and all.
        rows_seen: rows learned from, repeated ones counted each time.
        notes: anything else worth keeping.
    """

    answers: list[Any]
    training_seconds: float
    whole_seconds: float
    rows_seen: int
    notes: dict[str, Any] = field(default_factory=dict)


Run = Callable[[Lesson], Done]
