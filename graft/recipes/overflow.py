"""Texts longer than the model: which rules a task allows, using one for a while, saying what became of the texts."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator

from graft.errors import UsageError, nearest
from graft.grafted import Model
from graft.recipes.watch import Watch
from graft.tasks import Task


def check_overflow(task: Task, rule: str, *, learning: bool = False) -> None:
    """Refuse a rule the task has no use for, or none while it is learned.

    Raises:
        UsageError: naming those it has.
    """
    valid = [one for one in task.overflows if not (learning and one in task.answering_only)]
    if rule in valid:
        return
    if rule in task.overflows:
        raise UsageError(
            f"{task.name} learns from texts that are read at once, not by overflow rule {rule!r}: choose "
            f"{' or '.join(valid)}; `graft run {task.name} --overflow {rule}` answers by it"
        )
    raise UsageError(f"{task.name} has no overflow rule {rule!r}: {nearest(str(rule), valid)}")


@contextlib.contextmanager
def overflowing(model: Model, task: Task, rule: str | None) -> Iterator[None]:
    """Let a model read long texts by another rule than its own for a while; None leaves it its own."""
    own = model.settings
    if rule is not None:
        check_overflow(task, rule)
        model.settings = dataclasses.replace(own, overflow=rule)  # type: ignore[arg-type]
    try:
        yield
    finally:
        model.settings = own


def beyond(model: Model, which: str, *, cut: int, windows: int) -> str:
    """What became of texts longer than the model, in a sentence; nothing where there were none."""
    if windows:
        return f"{which} texts beyond the limit of {model.limit} tokens were read as a whole, in {windows:,} windows"
    if not cut:
        return ""
    where = " (from the middle of texts)" if model.settings.overflow == "head_tail" else ""
    return f"{cut:,} tokens of {which} texts{where} were beyond the limit of {model.limit} and were not read"


def say_beyond(model: Model, which: str, watch: Watch, *, cut: int, windows: int) -> None:
    """Say it as a notice."""
    if line := beyond(model, which, cut=cut, windows=windows):
        watch.note(f"note: {line}")
