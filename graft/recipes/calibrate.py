"""Calibrating: rows set aside for it, a temperature written into the last layer, a threshold for abstaining.

Rows are set aside where they are not missed: those a split column names as development rows, those that early stopping
has set aside anyway, or a tenth of them where that tenth holds ENOUGH rows (decision 0016). Elsewhere only on request.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from graft.checkpoint import choose_dtype
from graft.errors import DataError, UsageError
from graft.evaluate import calibrate
from graft.evaluate.intervals import Interval
from graft.grafted import Model
from graft.heads import Classify
from graft.inference import computing
from graft.recipes.rows import held_out
from graft.recipes.watch import Watch
from graft.sealed import Abstention, Calibration
from graft.tasks import Row, Task, find, names

if TYPE_CHECKING:
    from graft.recipes.adapt import Plan

DEV_SHARE = 0.1
"""Share of the rows set aside, at most..."""

MOST = 2000
"""... and no more rows than this where it is for calibrating alone: more would not make a temperature better."""

ENOUGH = 200
"""From so many development rows on, calibrating is the default: what a tenth fewer rows cost is lost in the noise."""

LABELLING = "classify"
"""The kind of head that gives labels their probabilities."""

ONE_LABEL = "a precision is for models that give exactly one label; this one may give several"


def check_wish(task: Task, plan: Plan) -> None:
    """Refuse calibration where it is asked for and cannot be.

    Raises:
        UsageError: the task, as it is learned, gives no probabilities of labels, or a precision is to do without them.
    """
    if (plan.calibrate or plan.precision is not None) and task.head != LABELLING:
        raise UsageError(f"{_form(task)} gives no probabilities to calibrate; leave calibrate and precision out")
    if plan.precision is not None and plan.calibrate is False:
        raise UsageError("a precision is reached with calibrated probabilities; leave calibrate=false out")


def aside(
    task: Task, rows: Sequence[Row], named: Sequence[Row], plan: Plan, tuned: Sequence[str] = ()
) -> tuple[Sequence[Row], Sequence[Row]]:
    """The rows to learn from, and the development rows where any are needed: the former have every label of the latter.

    Args:
        task: the task.
        rows: those that are not for testing.
        named: of these, those that the user's file calls development rows.
        plan: what is asked for.
        tuned: names of what the task is to find on development rows (`Task.tune`).

    Raises:
        UsageError: calibration that cannot be.
        DataError: too few rows.
    """
    check_wish(task, plan)
    if plan.precision is not None and any(isinstance(row.target, tuple) for row in rows):
        raise UsageError(ONE_LABEL)
    wished = [name for name in ("patience", "calibrate", "precision") if getattr(plan, name)]
    usual = task.head == LABELLING and plan.calibrate is None and (len(named) or len(rows) * DEV_SHARE) >= ENOUGH
    if not (wished or tuned or usual):
        return rows, []
    whole = plan.patience is not None or tuned
    share = DEV_SHARE if whole else min(DEV_SHARE, MOST / len(rows))
    # Another seed than that of the test rows: by the same one, the rows with the lowest hashes are gone already.
    dev = list(named) or held_out(rows, share, plan.seed + 1)[1]
    learned = _without(rows, dev)
    known = {name for row in learned for name in _names(task, row)}
    dev = [row for row in dev if _names(task, row) <= known]
    learned = _without(rows, dev)
    if dev and learned:
        return learned, dev
    if tuned:
        raise DataError(f"{len(rows)} rows are too few to set some aside for {', '.join(tuned)}; give more rows")
    if wished:
        raise DataError(
            f"{len(rows)} rows are too few to set a development part aside; train without {' and '.join(wished)}"
        )
    return rows, []


def _form(task: Task) -> str:
    """The task's name, and that it is put in words where that is why there is nothing to calibrate."""
    worded = task.name in names() and find(task.name).head == LABELLING != task.head
    return f"{task.name} in words" if worded else task.name


def _without(rows: Sequence[Row], others: Sequence[Row]) -> list[Row]:
    lines = {id(row) for row in others}
    return [row for row in rows if id(row) not in lines]


def _names(task: Task, row: Row) -> set[str]:
    """Labels of a row, where the task's head has a place for each."""
    if task.head not in (LABELLING, "tag"):
        return set()
    return {name for name in (row.target if isinstance(row.target, tuple) else (row.target,)) if isinstance(name, str)}


def calibrated(model: Model, task: Task, dev: Sequence[Row], plan: Plan, watch: Watch) -> None:
    """Find temperature and threshold on development rows; weights and settings of the model take them on.

    Dividing weights and bias of a linear output layer by the temperature divides its logits, exactly: the folder gives
    the same probabilities wherever it is opened.
    """
    head = model.head
    few = plan.calibrate is None and plan.precision is None and len(dev) < ENOUGH // 2
    if not dev or few or plan.calibrate is False or not isinstance(head, Classify):
        return
    if type(head.output) is not nn.Linear:
        watch.note(
            "note: the last layer of this model is more than a linear one, so that no temperature can be written into "
            "it; its probabilities are as they were, and no threshold is set"
        )
        return
    with computing(model, choose_dtype(plan.dtype)):
        logits = task.outputs(model, dev).values
    targets = torch.stack([task.target(row, head) for row in dev])
    found = calibrate.temperature(logits.numpy(), targets.numpy())
    with torch.no_grad():
        for weights in head.output.parameters():
            weights.div_(found)
    before, after = (calibrate.trust(targets.numpy(), head.probabilities(z).numpy()) for z in (logits, logits / found))
    model.settings = dataclasses.replace(model.settings, calibration=Calibration(temperature=found, rows=len(dev)))
    watch.note(
        f"calibrated on {len(dev):,} development rows: temperature {found:.3f}, calibration error (ECE) "
        f"{before['ece']:.3f} before, {after['ece']:.3f} after"
    )
    if plan.precision is not None:
        _abstain(model, head, logits / found, targets, plan.precision, watch)


def _abstain(model: Model, head: Classify, logits: Tensor, targets: Tensor, precision: float, watch: Watch) -> None:
    confidence, right = sure(head, logits, targets)
    chosen = calibrate.reliance(confidence.numpy(), right.numpy(), precision)
    watch.note(described(chosen))
    if chosen.reached:
        rule = Abstention(threshold=chosen.threshold, precision=precision, rows=chosen.rows)
        model.settings = dataclasses.replace(model.settings, abstention=rule)


def described(chosen: calibrate.Reliance) -> str:
    """What came of looking for a threshold, in a sentence."""
    facts = (
        f"{chosen.precision:.1%} right, at least {chosen.low:.1%} with 95 % confidence, "
        f"and {chosen.coverage:.1%} of {chosen.rows:,} rows answered"
    )
    if chosen.reached:
        return f"precision {chosen.wanted:g}: answers from probability {chosen.threshold:.4f} on are relied on: {facts}"
    return (
        f"note: these rows do not bear out a precision of {chosen.wanted:g}, so that no threshold was set; the best is "
        f"{chosen.low:.4f}, from probability {chosen.threshold:.4f} on: {facts}. Ask for less, or give more rows"
    )


def sure(head: Classify, logits: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """How sure each answer is, and whether it is right."""
    confidence, best = head.probabilities(logits.double()).max(-1)
    return confidence, best == targets


def check_precision(model: Model, task: Task, precision: float | None) -> None:
    """Refuse a precision, where one is asked for, before any work is done for it.

    Raises:
        UsageError: it is no share, or the model does not give exactly one label with a probability.
    """
    if precision is None:
        return
    if task.head != LABELLING or not isinstance(model.head, Classify):
        raise UsageError(f"{_form(task)} gives no probabilities; leave precision out")
    if model.head.problem == "multi":
        raise UsageError(ONE_LABEL)
    calibrate.check_share(precision)


def threshold(
    model: Model, task: Task, values: Any, rows: Sequence[Row], precision: float | None
) -> calibrate.Reliance | None:
    """From which probability on a model's answers to labelled rows reach a precision, where one is asked for."""
    head = model.head
    if precision is None or not isinstance(head, Classify):
        return None
    confidence, right = sure(head, values, torch.stack([task.target(row, head) for row in rows]))
    return calibrate.reliance(confidence.numpy(), right.numpy(), precision)


def relied(model: Model, task: Task, values: Any, rows: Sequence[Row]) -> dict[str, Interval]:
    """For a model that abstains: how many rows it answers, and how many of these rightly."""
    rule, head = model.settings.abstention, model.head
    if rule is None or not isinstance(head, Classify):
        return {}
    confidence, right = sure(head, values, torch.stack([task.target(row, head) for row in rows]))
    return calibrate.answered(confidence.numpy(), right.numpy(), rule.threshold)


def compared(model: Model, task: Task, values: Any, rows: Sequence[Row]) -> dict[str, Any] | None:
    """Temperature, and how far probabilities can be trusted on held-out rows without it and with it."""
    rule, head = model.settings.calibration, model.head
    if rule is None or not isinstance(head, Classify):
        return None
    targets = torch.stack([task.target(row, head) for row in rows]).numpy()
    found: dict[str, Mapping[str, float]] = {
        name: calibrate.trust(targets, head.probabilities(z).numpy())
        for name, z in (("before", values * rule.temperature), ("after", values))
    }
    return dataclasses.asdict(rule) | found


def sections(model: Model, task: Task, values: Any, rows: Sequence[Row], scores: Mapping[str, Interval]) -> list[Any]:
    """What a report shows of calibration and abstaining, on held-out rows."""
    from graft.evaluate import report
    from graft.evaluate.metrics import calibration

    found, head, rule, made = compared(model, task, values, rows), model.head, model.settings.abstention, []
    if found is not None and isinstance(head, Classify):
        targets = torch.stack([task.target(row, head) for row in rows]).numpy()
        before, after = (
            calibration(*calibrate.as_questions(targets, head.probabilities(z).numpy()))
            for z in (values * found["temperature"], values)
        )
        temperature, count = found["temperature"], found["rows"]
        made.append(report.calibrated_section(before, after, found, temperature=temperature, rows=count))
    if rule is not None:
        own = {name: scores[name] for name in ("coverage", "answered_precision") if name in scores}
        made.append(report.reliance_section(own, threshold=rule.threshold, precision=rule.precision, rows=rule.rows))
    return made
