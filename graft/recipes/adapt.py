"""Adapting a model to rows: the heart of finetune, of the estimator, and of any comparison."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from graft import checkpoint, transfer
from graft.errors import DataError, UsageError
from graft.evaluate.calibrate import check_share
from graft.evaluate.metrics import Interval
from graft.grafted import Model
from graft.heads import Classify, Regress
from graft.inference import computing
from graft.recipes.calibrate import aside, calibrated
from graft.recipes.watch import Watch
from graft.tasks import Row, Task
from graft.train.example import Example, by_row
from graft.train.loop import Schedule, Step, train
from graft.train.optimizer import AdamW
from graft.transfer import Solver, Strategy

FEWEST_STEPS = 120
"""Where the number of epochs is left open, small data are repeated until about so many steps are done..."""

MOST_EPOCHS = 20
"""... but no more often than this."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """How to adapt. None leaves a choice to Graft.

    Attributes:
        strategy: a name from graft.transfer.
        settings: the strategy's own, by name.
        epochs: times through the data; None: 3, or more where the data are few.
        batch_size: rows to a step.
        learning_rate: highest rate.
        warmup: share of steps spent rising to it.
        seed: of everything random.
        dtype: what to compute in; weights stay float32.
        class_weights: "balanced" weighs labels inversely to how often they occur.
        patience: stop when the development score has not risen for so many epochs, and keep the best weights. Sets a
            tenth of the rows aside by hash; None trains to the end.
        calibrate: set rows aside and make the probabilities mean what they say; None: where the rows are not missed
            (`graft.recipes.calibrate`).
        precision: mark answers as abstained that are less sure than it takes for this share of right ones.
    """

    strategy: str = "full"
    settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float = 5e-5
    warmup: float = 0.06
    seed: int = 0
    dtype: str = "auto"
    class_weights: str | None = None
    patience: int | None = None
    calibrate: bool | None = None
    precision: float | None = None

    def __post_init__(self) -> None:
        if self.class_weights not in (None, "balanced"):
            raise UsageError(f"class_weights is {self.class_weights!r}, expected 'balanced' or nothing")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"patience is {self.patience}, expected at least 1 epoch")
        if self.precision is not None:
            check_share(self.precision)

    def schedule(self, rows: int) -> Schedule:
        """The training schedule for so many rows."""
        few = -(-FEWEST_STEPS * self.batch_size // max(1, rows))
        return Schedule(
            epochs=self.epochs if self.epochs is not None else min(MOST_EPOCHS, max(3, few)),
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            warmup=self.warmup,
            seed=self.seed,
        )


@dataclass(kw_only=True)
class Adapted:
    """What adapting did.

    Attributes:
        rows: rows learned from.
        dev: development rows: set aside for early stopping and calibration.
        seconds: time spent learning, without reading data, loading or saving.
        rows_per_second: rows seen a second, repeated ones counted each time.
        truncated_tokens: tokens of the training texts that did not fit.
        windows: windows that training texts beyond the limit were read in.
        steps: loss, rate and gradient norm of each step.
        epochs: development metrics after each epoch, where rows were set aside.
        found: what a solver chose.
    """

    rows: int
    dev: int = 0
    seconds: float = 0.0
    rows_per_second: float = 0.0
    truncated_tokens: int = 0
    windows: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    found: dict[str, Any] = field(default_factory=dict)


def adapt(
    model: Model, task: Task, rows: Sequence[Row], plan: Plan, watch: Watch, named: Sequence[Row] = ()
) -> Adapted:
    """Graft a fresh head onto a float32 model and adapt it to rows, in place.

    Args:
        model: the model.
        task: what for.
        rows: the rows to learn from, some of which may be set aside as development rows.
        plan: how.
        watch: where notices and progress go.
        named: of the rows, those that are to be the development rows, where any are needed.

    Raises:
        DataError: the rows cannot teach this task.
        UsageError: an unknown strategy, or one that cannot do this task.
        TrainingError: the loss is not finite.
    """
    strategy = transfer.make(plan.strategy, plan.settings)
    dtype = checkpoint.choose_dtype(plan.dtype)
    if not rows:
        raise DataError("there are no rows to learn from")
    learned, dev = aside(task, rows, named, plan)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        if not (task.keeps_head and model.head is not None and model.head.kind == task.head):
            model.graft(task.head, **task.learn(learned))
        examples, cut = task.examples(model, learned)
        _weigh(model, examples, plan)
        windows = sum(example.windows > 1 for example in examples)
        done = Adapted(rows=len(learned), dev=len(dev), truncated_tokens=cut, windows=windows)
        began = time.perf_counter()
        if isinstance(strategy, Solver):
            seen = _solve(model, examples, strategy, plan, dtype, done, watch)
        else:
            seen = _learn(model, task, dev, examples, strategy, plan, dtype, done, watch)
        done.seconds = time.perf_counter() - began
        done.rows_per_second = seen * len(learned) / len(examples) / done.seconds
        model.eval()
        calibrated(model, task, dev, plan, watch)
    return done


def _weigh(model: Model, examples: Sequence[Example], plan: Plan) -> None:
    """Set class weights, and start a regression at the mean of its targets."""
    if plan.class_weights is None and not isinstance(model.head, Regress):
        return
    targets = torch.stack([windows[0].target for windows in by_row(examples)])
    if isinstance(model.head, Regress) and model.head.output.bias is not None:
        torch.nn.init.constant_(model.head.output.bias, float(targets.mean()))
    if plan.class_weights != "balanced":
        return
    if not isinstance(model.head, Classify):
        raise UsageError("class weights need a task with labels")
    labels = len(model.head.labels)
    if model.head.problem == "multi":
        held = targets.sum(0)
        model.head.class_weights = (len(targets) / (labels * held.clamp(min=1))).to(model.device)
    else:
        counts = torch.bincount(targets, minlength=labels)
        model.head.class_weights = (len(targets) / (labels * counts.clamp(min=1))).float().to(model.device)


def _solve(
    model: Model,
    examples: Sequence[Example],
    strategy: Solver,
    plan: Plan,
    dtype: torch.dtype,
    done: Adapted,
    watch: Watch,
) -> int:
    rows, more = by_row(examples), {}
    if len(rows) < len(examples):
        more["windows"] = [len(row) for row in rows]
    with watch.bar("features", len(examples)) as bar:
        done.found = strategy.solve(
            model,
            [sequence for example in examples for sequence in example.sequences],
            [kinds for example in examples for kinds in example.types],
            torch.stack([row[0].target for row in rows]),
            seed=plan.seed,
            balanced=plan.class_weights == "balanced",
            dtype=dtype,
            progress=bar.advance,
            **more,
        )
    return len(examples)


def _learn(
    model: Model,
    task: Task,
    dev: Sequence[Row],
    examples: Sequence[Example],
    strategy: Strategy,
    plan: Plan,
    dtype: torch.dtype,
    done: Adapted,
    watch: Watch,
) -> int:
    """Train step by step; with patience, keep the weights that did best on the rows set aside."""
    dev_rows = dev if plan.patience is not None else []
    schedule, seen = plan.schedule(len(examples)), 0
    best = _Best(task.primary, plan.patience)
    groups = strategy.begin(model)
    with computing(model, dtype) as masters:
        optimizer = AdamW(groups, masters, _touched(model, examples))
        with watch.bar("training", schedule.steps(len(examples)), "steps") as bar:
            strategy.epoch(model, 0, schedule.epochs)
            for step in train(model, examples, optimizer, schedule):
                seen += step.rows
                done.steps.append(_record(step))
                bar.advance(loss=f"{step.loss:.3f}", epoch=f"{step.epoch + 1}/{schedule.epochs}")
                if dev_rows and step.ends_epoch:
                    metrics = task.measure(model.head, task.outputs(model, dev_rows).values, dev_rows)  # type: ignore[arg-type]
                    done.epochs.append({"epoch": step.epoch + 1, **plain(metrics)})
                    if best.judge(metrics, model, masters):
                        break
                if step.ends_epoch and step.number < step.steps:
                    strategy.epoch(model, step.epoch + 1, schedule.epochs)
        model.backbone.token_embedding.sparse = False
        best.restore()
    strategy.finish(model)
    return seen


def _touched(model: Model, examples: Sequence[Example]) -> Mapping[torch.nn.Parameter, Tensor]:
    """The rows of the token embedding that occur in the data: no others will ever have a gradient, so it is sparse."""
    weight = model.backbone.token_embedding.weight
    shared = any(parameter is weight for parameter in (model.head or torch.nn.Module()).parameters())
    if shared or model.backbone.decoder is not None:  # a decoder reads its start token as well
        return {}
    model.backbone.token_embedding.sparse = True
    used = sorted({token for example in examples for sequence in example.sequences for token in sequence})
    return {weight: torch.tensor(used, device=model.device)}  # type: ignore[dict-item]


class _Best:
    """The best weights so far by the development metric."""

    def __init__(self, metric: str, patience: int | None) -> None:
        self.metric, self.patience = metric, patience
        self.value, self.waited = float("-inf"), 0
        self.kept: list[tuple[Tensor, Tensor]] = []

    def judge(
        self, metrics: Mapping[str, Interval], model: Model, masters: Mapping[torch.nn.Parameter, Tensor]
    ) -> bool:
        """Take note of an epoch; True means that it is time to stop."""
        value = metrics[self.metric if self.metric in metrics else next(iter(metrics))].value
        if value > self.value:
            self.value, self.waited = value, 0
            live = [masters.get(parameter, parameter.data) for parameter in model.parameters()]
            self.kept = [(values, values.clone()) for values in live]
        else:
            self.waited += 1
        return self.patience is not None and self.waited >= self.patience

    def restore(self) -> None:
        """Put the best weights back."""
        for live, kept in self.kept:
            live.copy_(kept)


def _record(step: Step) -> dict[str, Any]:
    return {name: getattr(step, name) for name in Step.__dataclass_fields__ if name != "ends_epoch"}


def plain(metrics: Mapping[str, Interval]) -> dict[str, dict[str, float]]:
    """Metrics as JSON: {name: {value, low, high}}."""
    return {name: interval.as_dict() for name, interval in metrics.items()}


def lines(steps: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Records as JSON lines."""
    for step in steps:
        yield json.dumps(step)
