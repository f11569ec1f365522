"""Run: a task on texts, with a model as it is or as adapted."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from graft import tasks
from graft.errors import UsageError, nearest
from graft.grafted import Model
from graft.heads import Answer
from graft.loading import load
from graft.recipes.overflow import overflowing
from graft.recipes.watch import Watch
from graft.sealed import Text
from graft.tasks import Task


def run(
    task: str,
    texts: Sequence[Text | list[str]],
    *,
    model: str | Path | Model | None = None,
    dtype: str = "auto",
    overflow: str | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> list[Answer]:
    """Do a task on texts.

    Args:
        task: one of those that `graft.tasks.names` lists, such as "classify", "ask" or "correct".
        texts: the texts; for pair and similarity pairs of texts; for ask pairs of a question and a text, for choice
            also questions alone; for tag also lists of words.
        model: a folder, a name, or a loaded model; "correct" does without one, by the frequency of words.
        dtype: what to compute in.
        overflow: what happens to texts longer than the model: "truncate", "head_tail", "window" or "error"; None: what
            the model says.
        watch: where progress goes; silent by default.
        **options: the task's own; for classify `labels`, names to choose from with a model that has none of its own
            (zero-shot), and `template`, the sentence a name is put into for that; for choice `choices`, what to choose
            from: the same for all questions, or a list of them for each; for ask `n`, `threshold`, `stride` and
            `longest` (see graft.tasks.ask.Rules); for the others what their files in graft/tasks say of `answer`: for
            tasks that write `longest`, for complete `n`, for correct `words` and `real_words`, for score `per`, ....

    Returns:
        One answer for each text, in order.

    Raises:
        UsageError: an unknown task, or one this model cannot do.
        GraftError: the model cannot be used.
    """
    watch = watch or Watch(quiet=True)
    job = tasks.find(task)
    for name in options:
        if name not in job.options:
            raise UsageError(f"{task} has no option {name!r}: {nearest(name, job.options) if job.options else 'none'}")
    if model is None:
        return _without(job, texts, watch, overflow, options)
    opened = model if isinstance(model, Model) else load(model, dtype=dtype)
    if opened.settings.prompt:
        from graft.recipes.worded import in_words  # what training needs is not waited for otherwise

        job = in_words(job, opened)
        if options and not job.options:
            raise UsageError(f"{opened.folder}: this model has labels of its own; leave {', '.join(options)} out")
    with watch.bar(task, len(texts)) as bar, overflowing(opened, job, overflow):
        return job.answer(opened, texts, bar.advance, **options)  # type: ignore[arg-type]


def _without(
    job: Task, texts: Sequence[Text | list[str]], watch: Watch, overflow: str | None, options: dict[str, Any]
) -> list[Answer]:
    """Do a task without any model.

    Raises:
        UsageError: it takes one.
    """
    if job.needs_model or overflow is not None:
        what = f"{job.name} takes one" if job.needs_model else "overflow is about texts longer than a model"
        raise UsageError(f"no model is given, and {what}: name it, as in model='my-model'")
    with watch.bar(job.name, len(texts)) as bar:
        return job.answer(None, texts, bar.advance, **options)  # type: ignore[arg-type]
