"""Adapting a model to rows: the heart of finetune, of the estimator, and of any comparison."""

from __future__ import annotations

import dataclasses
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from graft import checkpoint, transfer
from graft.errors import DataError, UsageError
from graft.evaluate.calibrate import check_share
from graft.grafted import Model
from graft.heads import HEADS, Classify, Pooled, Regress
from graft.inference import computing
from graft.recipes.calibrate import aside, calibrated, check_wish
from graft.recipes.learning import contrast, learn, solve
from graft.recipes.watch import Watch
from graft.tasks import Row, Task
from graft.text import Frame
from graft.train.example import Example, by_row
from graft.train.loop import Schedule
from graft.train.objectives import Objective, language
from graft.train.vocabulary import grow
from graft.transfer import Contrasting, Prompter, Solver, Strategy

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
        learning_rate: highest rate; None: the strategy's own.
        warmup: share of steps spent rising to it.
        seed: of everything random.
        dtype: what to compute in; weights stay float32.
        class_weights: "balanced" weighs labels inversely to how often they occur.
        patience: stop when the development score has not risen for so many epochs, and keep the best weights. Sets a
            tenth of the rows aside by hash; None trains to the end.
        auxiliary: weight of a language model's loss on the same rows, added to the task's (lambda of Radford et al.
            2018, section 3.2); None: what the family says, 0.5 for GPT-1 and 0 for the others.
        calibrate: set rows aside and make the probabilities mean what they say; None: where there are probabilities and
            the rows are not missed (`graft.recipes.calibrate`).
        precision: mark answers as abstained that are less sure than it takes for this share of right ones.
    """

    strategy: str = "full"
    settings: Mapping[str, Any] = field(default_factory=dict)
    epochs: int | None = None
    batch_size: int = 32
    learning_rate: float | None = None
    warmup: float = 0.06
    seed: int = 0
    dtype: str = "auto"
    class_weights: str | None = None
    patience: int | None = None
    auxiliary: float | None = None
    calibrate: bool | None = None
    precision: float | None = None

    def __post_init__(self) -> None:
        if self.class_weights not in (None, "balanced"):
            raise UsageError(f"class_weights is {self.class_weights!r}, expected 'balanced' or nothing")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"patience is {self.patience}, expected at least 1 epoch")
        if self.auxiliary is not None and not (math.isfinite(self.auxiliary) and self.auxiliary >= 0):
            raise UsageError(f"auxiliary is {self.auxiliary}, expected 0 or more")
        if self.precision is not None:
            check_share(self.precision)

    @property
    def rate(self) -> float:
        """The highest learning rate: the one asked for, else the strategy's own."""
        own: float = getattr(transfer.find(self.strategy), "learning_rate", Strategy.learning_rate)
        return own if self.learning_rate is None else self.learning_rate

    def schedule(self, rows: int) -> Schedule:
        """The training schedule for so many rows."""
        few = -(-FEWEST_STEPS * self.batch_size // max(1, rows))
        return Schedule(
            epochs=self.epochs if self.epochs is not None else min(MOST_EPOCHS, max(3, few)),
            batch_size=self.batch_size,
            learning_rate=self.rate,
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
        auxiliary: weight of the language model's loss.
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
    auxiliary: float = 0.0
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
    checkpoint.choose_dtype(plan.dtype)
    if not rows:
        raise DataError("there are no rows to learn from")
    check_wish(task, plan)
    if isinstance(strategy, Prompter):
        return _prompt(model, task, rows, strategy, plan, watch)
    model.merge()  # an adapter is a whole model from here on
    known, unsettled = task.learn(rows), _answering(model, task, rows)
    learned, dev = aside(task, rows, named, plan, unsettled)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        objective = _objective(model, task, strategy, plan, watch)
        if not (task.keeps_head and model.head is not None and task.fits(model.head.kind)):
            model.graft(task.head, **known)
        examples, cut = task.examples(model, learned)
        _weigh(model, examples, plan)
        done = Adapted(rows=len(learned), dev=len(dev), truncated_tokens=cut, auxiliary=objective.weight)
        done.windows = _windows(model, examples)
        began = time.perf_counter()
        if isinstance(strategy, Solver):
            seen = contrast(model, examples, strategy, plan, done, watch) if isinstance(strategy, Contrasting) else 0
            seen += solve(model, examples, strategy, plan, done, watch)
        else:
            seen = learn(model, task, dev, examples, strategy, objective, plan, done, watch)
        done.seconds = time.perf_counter() - began
        done.rows_per_second = seen * len(learned) / len(examples) / done.seconds
    model.eval()
    if unsettled:
        _tune(model, task, dev, plan, done)
    calibrated(model, task, dev, plan, watch)
    return done


def _objective(model: Model, task: Task, strategy: Strategy | Solver, plan: Plan, watch: Watch) -> Objective:
    """What is made small, from the model with its family's input transformations."""
    weight = _auxiliary(model, task, strategy, plan)
    _transform(model, task, strategy, watch)
    objective = Objective(language(model, weight) if weight else None)
    if weight:
        watch.note(f"auxiliary: {weight:g} x a language model's loss on the same texts is added to the task's")
    return objective


def _auxiliary(model: Model, task: Task, strategy: Strategy | Solver, plan: Plan) -> float:
    """The weight of the language model's loss.

    Raises:
        UsageError: one was asked for where nothing can take it.
    """
    language_itself = task.head in ("next", "mask")
    if isinstance(strategy, Solver) or language_itself:
        if plan.auxiliary:
            why = (
                f"task {task.name} has that loss itself"
                if language_itself
                else f"strategy {plan.strategy} has no steps"
            )
            raise UsageError(f"auxiliary is {plan.auxiliary:g}, a language model's loss in each step, but {why}")
        return 0.0
    return model.family.auxiliary if plan.auxiliary is None else plan.auxiliary


def _transform(model: Model, task: Task, strategy: Strategy | Solver, watch: Watch) -> None:
    """Take on the family's input transformations, where what they need is learned (Radford et al. 2018, section 3.3).

    Without steps nothing is: neither embeddings of new tokens nor a sum over both orders.
    """
    stepwise = strategy if isinstance(strategy, Strategy) else None
    both = stepwise is not None and task.symmetric and model.family.symmetric
    model.settings = dataclasses.replace(model.settings, both_orders=both)
    if stepwise and stepwise.tokens and issubclass(HEADS[task.head], Pooled) and model.family.adapted != Frame():
        count = grow(model)
        frame = model.tokenizer.frame
        shown = " ".join((*frame.start, "text", *frame.between, "text", *frame.end))
        watch.note(f"texts are read as {shown}" + (f"; {count} new tokens" if count else ""))


def _answering(model: Model, task: Task, rows: Sequence[Row]) -> list[str]:
    """Settle what the model's answers depend on; gives the names of what is left to be tuned on development rows."""
    settled = {**task.answering(rows), **model.settings.answering}
    _keep(model, {name: value for name, value in settled.items() if value is not None})
    return [name for name, value in settled.items() if value is None]


def _tune(model: Model, task: Task, dev: Sequence[Row], plan: Plan, done: Adapted) -> None:
    """Settle the rest on development rows."""
    with computing(model, checkpoint.choose_dtype(plan.dtype)):
        found = task.tune(model, dev)
    done.found = {**done.found, **found}
    _keep(model, found)


def _keep(model: Model, values: Mapping[str, Any]) -> None:
    model.settings = replace(model.settings, answering={**model.settings.answering, **values})


def _prompt(model: Model, task: Task, rows: Sequence[Row], strategy: Prompter, plan: Plan, watch: Watch) -> Adapted:
    """Decide how to ask; nothing learns."""
    if model.settings.prompt is None:
        raise UsageError(f"strategy {plan.strategy} needs a task put in words; use `graft finetune --strategy prompt`")
    began = time.perf_counter()
    texts = [row.inputs[0] for row in rows]
    with watch.bar("examples", len(rows)) as bar, computing(model, checkpoint.choose_dtype(plan.dtype)):
        found = strategy.prompt(model, texts, [task.word(row) for row in rows], seed=plan.seed, progress=bar.advance)
    seconds = time.perf_counter() - began
    if found.get("rows_left_out"):
        watch.note(
            f"{found['rows_kept']:,} of {len(rows):,} rows are kept to choose examples from; candidates=N keeps more"
        )
    return Adapted(rows=len(rows), seconds=seconds, rows_per_second=len(rows) / seconds, found=found)


def _windows(model: Model, examples: Sequence[Example]) -> int:
    several = model.settings.overflow == "window"  # examples that are drawn anew each time are not looked at in vain
    return sum(example.windows > 1 for example in examples) if several else 0


def _weigh(model: Model, examples: Sequence[Example], plan: Plan) -> None:
    """Set class weights, and start a regression at the mean of its targets."""
    if plan.class_weights is None and not isinstance(model.head, Regress):
        return
    if plan.class_weights and not isinstance(model.head, Classify):
        raise UsageError("class weights need a task with one label for each row")
    targets = torch.stack([windows[0].target for windows in by_row(examples)])
    if isinstance(model.head, Regress) and model.head.output.bias is not None:
        torch.nn.init.constant_(model.head.output.bias, float(targets.mean()))
    if plan.class_weights != "balanced":
        return
    assert isinstance(model.head, Classify)
    labels = len(model.head.labels)
    if model.head.problem == "multi":
        held = targets.sum(0)
        model.head.class_weights = (len(targets) / (labels * held.clamp(min=1))).to(model.device)
    else:
        counts = torch.bincount(targets, minlength=labels)
        model.head.class_weights = (len(targets) / (labels * counts.clamp(min=1))).float().to(model.device)
