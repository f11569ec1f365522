"""Adapting a model to rows: the heart of finetune, of the estimator, and of any comparison."""

from __future__ import annotations

import dataclasses
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from graft import checkpoint, transfer
from graft.errors import DataError, UsageError
from graft.evaluate.metrics import Interval
from graft.evaluate.wording import LOWER_IS_BETTER
from graft.grafted import Model
from graft.heads import HEADS, Classify, Pooled, Regress
from graft.inference import computing
from graft.recipes.rows import held_out
from graft.recipes.watch import Watch
from graft.tasks import Row, Task
from graft.text import Frame
from graft.train.contrast import groups, pair_loss
from graft.train.example import Example
from graft.train.loop import Schedule, Step, train
from graft.train.objectives import Objective, language
from graft.train.optimizer import AdamW
from graft.train.vocabulary import grow
from graft.transfer import Contrasting, Prompter, Solver, Strategy

FEWEST_STEPS = 120
"""Where the number of epochs is left open, small data are repeated until about so many steps are done..."""

MOST_EPOCHS = 20
"""... but no more often than this."""

DEV_SHARE = 0.1


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
            tenth of the rows aside by hash; None trains on all rows to the end.
        auxiliary: weight of a language model's loss on the same rows, added to the task's (lambda of Radford et al.
            2018, section 3.2); None: what the family says, 0.5 for GPT-1 and 0 for the others.
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

    def __post_init__(self) -> None:
        if self.class_weights not in (None, "balanced"):
            raise UsageError(f"class_weights is {self.class_weights!r}, expected 'balanced' or nothing")
        if self.patience is not None and self.patience < 1:
            raise UsageError(f"patience is {self.patience}, expected at least 1 epoch")
        if self.auxiliary is not None and not (math.isfinite(self.auxiliary) and self.auxiliary >= 0):
            raise UsageError(f"auxiliary is {self.auxiliary}, expected 0 or more")

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
        seconds: time spent learning, without reading data, loading or saving.
        rows_per_second: rows seen a second, repeated ones counted each time.
        truncated_tokens: tokens of the training texts that did not fit.
        steps: loss, rate and gradient norm of each step.
        epochs: development metrics after each epoch, where rows were set aside.
        auxiliary: weight of the language model's loss.
        found: what a solver chose.
    """

    rows: int
    seconds: float = 0.0
    rows_per_second: float = 0.0
    truncated_tokens: int = 0
    steps: list[dict[str, Any]] = field(default_factory=list)
    epochs: list[dict[str, Any]] = field(default_factory=list)
    auxiliary: float = 0.0
    found: dict[str, Any] = field(default_factory=dict)


def adapt(model: Model, task: Task, rows: Sequence[Row], plan: Plan, watch: Watch) -> Adapted:
    """Graft a fresh head onto a float32 model and adapt it to rows, in place.

    Raises:
        DataError: the rows cannot teach this task.
        UsageError: an unknown strategy, or one that cannot do this task.
        TrainingError: the loss is not finite.
    """
    strategy = transfer.make(plan.strategy, plan.settings)
    dtype = checkpoint.choose_dtype(plan.dtype)
    if not rows:
        raise DataError("there are no rows to learn from")
    if isinstance(strategy, Prompter):
        return _prompt(model, task, rows, strategy, plan, watch)
    model.merge()  # an adapter is a whole model from here on
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(plan.seed)
        weight = _auxiliary(model, task, strategy, plan)
        _transform(model, task, strategy, watch)
        objective = Objective(language(model, weight) if weight else None)
        if weight:
            watch.note(f"auxiliary: {weight:g} x a language model's loss on the same texts is added to the task's")
        if not (task.keeps_head and model.head is not None and task.fits(model.head.kind)):
            model.graft(task.head, **task.learn(rows))
        tuning, learned = _answering(model, task, rows, plan)
        examples, cut = task.examples(model, learned)
        _weigh(model, examples, plan)
        done = Adapted(rows=len(learned), truncated_tokens=cut, auxiliary=weight)
        began = time.perf_counter()
        if isinstance(strategy, Solver):
            seen = 0
            if isinstance(strategy, Contrasting):
                seen += _contrast(model, examples, strategy, plan, dtype, done, watch)
            seen += _solve(model, examples, strategy, plan, dtype, done, watch)
        else:
            seen = _learn(model, task, rows, examples, strategy, objective, plan, dtype, done, watch)
        done.seconds = time.perf_counter() - began
        done.rows_per_second = seen / done.seconds
    model.eval()
    if tuning:
        with computing(model, dtype):
            found = task.tune(model, tuning)
        done.found = {**done.found, **found}
        _keep(model, found)
    return done


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


def _answering(model: Model, task: Task, rows: Sequence[Row], plan: Plan) -> tuple[list[Row], Sequence[Row]]:
    """Settle what the model's answers depend on; rows to tune what is left open, and those to learn from.

    With patience, `_learn` sets the same rows aside.
    """
    settled = {**task.answering(rows), **model.settings.answering}
    _keep(model, {name: value for name, value in settled.items() if value is not None})
    if all(value is not None for value in settled.values()):
        return [], rows
    others, tuning = development(rows, plan)
    if not others or not tuning:
        raise DataError(f"{len(rows)} rows are too few to set some aside for {', '.join(settled)}; give more rows")
    return tuning, rows if plan.patience is not None else others


def development(rows: Sequence[Row], plan: Plan) -> tuple[list[Row], list[Row]]:
    """Rows to learn from, and rows set aside: by another hash than that of the test rows, which may be gone already."""
    return held_out(rows, DEV_SHARE, plan.seed + 1)


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


def _weigh(model: Model, examples: Sequence[Example], plan: Plan) -> None:
    """Set class weights, and start a regression at the mean of its targets."""
    if plan.class_weights is None and not isinstance(model.head, Regress):
        return
    if plan.class_weights and not isinstance(model.head, Classify):
        raise UsageError("class weights need a task with one label for each row")
    targets = torch.stack([example.target for example in examples])
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


def _solve(
    model: Model,
    examples: Sequence[Example],
    strategy: Solver,
    plan: Plan,
    dtype: torch.dtype,
    done: Adapted,
    watch: Watch,
) -> int:
    if any(example.places is not None for example in examples):
        raise UsageError(
            f"strategy {plan.strategy} solves for what a whole row is, not for its tokens; use strategy full"
        )
    if any(len(example.sequences) > 1 for example in examples):
        raise UsageError(
            f"strategy {plan.strategy} solves for rows of one sequence, this task's have several; use strategy full"
        )
    with watch.bar("features", len(examples)) as bar:
        done.found = strategy.solve(
            model,
            [sequence for example in examples for sequence in example.sequences],
            [kinds for example in examples for kinds in example.types],
            torch.stack([example.target for example in examples]),
            seed=plan.seed,
            balanced=plan.class_weights == "balanced",
            dtype=dtype,
            progress=bar.advance,
        )
    return len(examples)


def _contrast(
    model: Model,
    examples: Sequence[Example],
    strategy: Contrasting,
    plan: Plan,
    dtype: torch.dtype,
    done: Adapted,
    watch: Watch,
) -> int:
    """Train the backbone on pairs of rows, each step on one group of them."""
    if plan.patience is not None:
        raise UsageError(f"strategy {strategy.name} has no score to stop by while it learns; leave patience out")
    schedule, learning = plan.schedule(len(examples)), strategy.begin(model)
    steps = schedule.steps(len(examples))
    drawn, seen = groups(examples, schedule.batch_size, steps, plan.seed), 0
    loss, once = partial(pair_loss, temperature=strategy.temperature), replace(schedule, epochs=1, batch_size=1)
    with computing(model, dtype) as masters, watch.bar("contrasting", steps, "steps") as bar:
        optimizer = AdamW(learning, masters, _touched(model, examples))
        for step in train(model, drawn, optimizer, once, loss):
            rows, epoch = step.sequences, (step.number - 1) * schedule.epochs // steps
            seen += rows
            done.steps.append(_record(step) | {"epoch": epoch, "rows": rows})
            bar.advance(loss=f"{step.loss:.3f}", epoch=f"{epoch + 1}/{schedule.epochs}")
        model.backbone.token_embedding.sparse = False
    return seen


def _learn(
    model: Model,
    task: Task,
    rows: Sequence[Row],
    examples: Sequence[Example],
    strategy: Strategy,
    objective: Objective,
    plan: Plan,
    dtype: torch.dtype,
    done: Adapted,
    watch: Watch,
) -> int:
    """Train step by step; with patience, keep the weights that did best on the rows set aside."""
    dev_rows: list[Row] = []
    if plan.patience is not None:
        # Another seed than the score's: by the same hash, every row that would fall here has been set aside already.
        kept, dev_rows = development(rows, plan)
        examples, _ = task.examples(model, kept)
        if not dev_rows or not examples:
            raise DataError(f"{len(rows)} rows are too few to set a development part aside; train without patience")
    schedule, seen = plan.schedule(len(examples)), 0
    best = _Best(task.primary, plan.patience)
    groups = [*strategy.begin(model), *objective.groups(model)]
    with computing(model, dtype) as masters, computing(objective, dtype) as beside:
        touched = _touched(model, examples) if objective.language is None else {}
        optimizer = AdamW(groups, {**masters, **beside}, touched)
        with watch.bar("training", schedule.steps(len(examples)), "steps") as bar:
            strategy.epoch(model, 0, schedule.epochs)
            for step in train(model, examples, optimizer, schedule, objective):
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
    random = model.head is not None and model.head.kind == "mask"  # any token may stand where one was masked
    if shared or random or model.backbone.decoder is not None:  # a decoder reads its start token as well
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
        name = self.metric if self.metric in metrics else next(iter(metrics))
        value = metrics[name].value * (-1 if name in LOWER_IS_BETTER else 1)
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
