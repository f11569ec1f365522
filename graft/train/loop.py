"""The training loop: an iterator of steps. The caller prints, records and stops; there are no callbacks."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from graft.batch import in_order
from graft.errors import TrainingError, UsageError
from graft.grafted import Model
from graft.train.example import Example, task_loss
from graft.train.optimizer import AdamW


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How long and how fast to learn.

    Attributes:
        epochs: times through the data.
        batch_size: rows to a step.
        learning_rate: highest rate, reached after the warm-up, then falling in a line to zero.
        warmup: share of the steps spent rising to it.
        clip: largest gradient norm; larger gradients are scaled down to it.
        tokens: most tokens in one packed batch; a step with more is done in several, with the same result.
        seed: of the order of the rows.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup: float = 0.06
    clip: float = 1.0
    tokens: int = 8192
    seed: int = 0

    def __post_init__(self) -> None:
        faults = [
            f"{name} is {getattr(self, name)!r}, expected {expected}"
            for name, valid, expected in (
                ("epochs", self.epochs >= 1, "at least 1"),
                ("batch_size", self.batch_size >= 1, "at least 1"),
                ("learning_rate", 0 < self.learning_rate < 10, "above 0 and below 10"),
                ("warmup", 0 <= self.warmup < 1, "at least 0 and below 1"),
                ("clip", self.clip > 0, "above 0"),
                ("tokens", self.tokens >= 1, "at least 1"),
            )
            if not valid
        ]
        if faults:
            raise UsageError("the training schedule makes no sense: " + "; ".join(faults))

    def steps(self, rows: int) -> int:
        """Steps in all."""
        return self.epochs * -(-rows // self.batch_size)

    def rate(self, step: int, steps: int) -> float:
        """Learning rate of step 0, 1, ...: a line up through the warm-up, a line down to zero."""
        rising = max(1, round(self.warmup * steps)) if self.warmup else 0
        if step < rising:
            return self.learning_rate * (step + 1) / rising
        return self.learning_rate * (steps - step) / max(1, steps - rising)


@dataclass(frozen=True, kw_only=True)
class Step:
    """What one step did."""

    number: int
    steps: int
    epoch: int
    loss: float
    rate: float
    gradient_norm: float
    rows: int
    sequences: int
    tokens: int
    seconds: float
    ends_epoch: bool


Loss = Callable[[Model, Sequence[Example]], Tensor]
"""The mean loss of some rows."""


def train(
    model: Model, examples: Sequence[Example], optimizer: AdamW, schedule: Schedule, loss: Loss = task_loss
) -> Iterator[Step]:
    """Train a model.

    Args:
        model: with the head to be trained; left in evaluation mode between steps and at the end.
        examples: the rows.
        optimizer: over what the strategy lets learn.
        schedule: how long and how fast.
        loss: what is made small.

    Yields:
        One Step after each update.

    Raises:
        TrainingError: the loss or a gradient is not finite; raised before the update, naming the rows of the batch.
    """
    if not examples:
        raise TrainingError("there are no rows to train on")
    steps, number = schedule.steps(len(examples)), 0
    shuffle = torch.Generator().manual_seed(schedule.seed)
    for epoch in range(schedule.epochs):
        order = torch.randperm(len(examples), generator=shuffle).tolist()
        for start in range(0, len(order), schedule.batch_size):
            began = time.perf_counter()
            rows = [examples[index] for index in order[start : start + schedule.batch_size]]
            rate = schedule.rate(number, steps)
            value, norm = _step(model, rows, optimizer, schedule, rate, loss)
            number += 1
            yield Step(
                number=number,
                steps=steps,
                epoch=epoch,
                loss=value,
                rate=rate,
                gradient_norm=norm,
                rows=len(rows),
                sequences=sum(len(row.sequences) for row in rows),
                tokens=sum(row.tokens for row in rows),
                seconds=time.perf_counter() - began,
                ends_epoch=start + schedule.batch_size >= len(order),
            )


def _step(
    model: Model, rows: Sequence[Example], optimizer: AdamW, schedule: Schedule, rate: float, loss: Loss
) -> tuple[float, float]:
    model.train()
    try:
        total = 0.0
        for part in in_order(range(len(rows)), [row.tokens for row in rows], schedule.tokens):
            own = [rows[index] for index in part]
            share = sum(row.targets for row in own) / sum(row.targets for row in rows)
            value = loss(model, own) * share
            total += _finite(value.item(), "loss", rows)
            value.backward()  # type: ignore[no-untyped-call]
        norm = _finite(optimizer.norm().item(), "gradient norm", rows)
        optimizer.step(rate, min(1.0, schedule.clip / (norm + 1e-6)))
    finally:
        model.eval()
    return total, norm


def _finite(value: float, what: str, rows: Sequence[Example]) -> float:
    if value - value == 0:
        return value
    lines = sorted(row.line for row in rows)
    raise TrainingError(
        f"the {what} is {value}; stopped before the weights were touched. The rows of this batch are on lines "
        f"{', '.join(map(str, lines))}. Lower the learning rate, or look for odd rows among them"
    )
