"""Learning from examples: a head solved for, rows contrasted, or training step by step; and the record of it."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from graft.checkpoint import choose_dtype
from graft.errors import UsageError
from graft.evaluate.metrics import Interval
from graft.evaluate.wording import LOWER_IS_BETTER
from graft.grafted import Model
from graft.inference import computing
from graft.recipes.watch import Watch
from graft.tasks import Row, Task
from graft.train.contrast import groups, pair_loss
from graft.train.example import Example, by_row
from graft.train.loop import Step, train
from graft.train.objectives import Objective
from graft.train.optimizer import AdamW
from graft.transfer import Contrasting, Solver, Strategy, quicker_head

if TYPE_CHECKING:
    from graft.recipes.adapt import Adapted, Plan


def solve(
    model: Model,
    examples: Sequence[Example],
    strategy: Solver,
    plan: Plan,
    done: Adapted,
    watch: Watch,
) -> int:
    """Solve for the head; gives how many sequences were read.

    Raises:
        UsageError: the task's rows are not of the kind a head can be solved for.
    """
    if any(example.places is not None for example in examples):
        raise UsageError(
            f"strategy {plan.strategy} solves for what a whole row is, not for its tokens; use strategy full"
        )
    if any(len(example.sequences) > 1 for example in examples):
        raise UsageError(
            f"strategy {plan.strategy} solves for rows of one sequence, this task's have several; use strategy full"
        )
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
            dtype=choose_dtype(plan.dtype),
            progress=bar.advance,
            **more,
        )
    return len(examples)


def contrast(
    model: Model,
    examples: Sequence[Example],
    strategy: Contrasting,
    plan: Plan,
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
    with computing(model, choose_dtype(plan.dtype)) as masters, watch.bar("contrasting", steps, "steps") as bar:
        optimizer = AdamW(learning, masters, _touched(model, examples))
        for step in train(model, drawn, optimizer, once, loss):
            rows, epoch = step.sequences, (step.number - 1) * schedule.epochs // steps
            seen += rows
            done.steps.append(_record(step) | {"epoch": epoch, "rows": rows})
            bar.advance(loss=f"{step.loss:.3f}", epoch=f"{epoch + 1}/{schedule.epochs}")
        model.backbone.token_embedding.sparse = False
    return seen


def learn(
    model: Model,
    task: Task,
    dev: Sequence[Row],
    examples: Sequence[Example],
    strategy: Strategy,
    objective: Objective,
    plan: Plan,
    done: Adapted,
    watch: Watch,
) -> int:
    """Train step by step; with patience, keep the weights that did best on the rows set aside."""
    dev_rows, dtype = dev if plan.patience is not None else [], choose_dtype(plan.dtype)
    schedule, seen = plan.schedule(len(examples)), 0
    best = _Best(task.primary, plan.patience)
    learning = quicker_head(model, strategy.begin(model), plan.rate, strategy.head_rate)
    if max(group.rate for group in learning) > 1:
        watch.note(
            f"the fresh head learns at {strategy.head_rate:g}, the rest at {plan.rate:g}; head_rate=0 for one rate"
        )
    groups = [*learning, *objective.groups(model)]
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
