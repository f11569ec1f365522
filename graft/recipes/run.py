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


def run(
    task: str,
    texts: Sequence[Text | list[str]],
    *,
    model: str | Path | Model,
    dtype: str = "auto",
    overflow: str | None = None,
    watch: Watch | None = None,
    **options: Any,
) -> list[Answer]:
    """Do a task on texts.

    Args:
        task: "classify", "pair", "choice", "similarity", "embed", "tag", "ask", "summarize", "translate", "score"
            or "complete".
        texts: the texts; for pair and similarity pairs of texts; for ask pairs of a question and a text, for choice
            also questions alone; for tag also lists of words.
        model: a folder, a name, or a loaded model.
        dtype: what to compute in.
        overflow: what happens to texts longer than the model: "truncate", "head_tail", "window" or "error"; None: what
            the model says.
        watch: where progress goes; silent by default.
        **options: the task's own; for classify `labels`, names to choose from with a model that has none of its own
            (zero-shot), and `template`, the sentence a name is put into for that; for choice `choices`, what to choose
            from: the same for all questions, or a list of them for each; for ask `n`, `threshold`, `stride` and
            `longest` (see graft.tasks.ask.Rules); for tasks that write text `longest`; for score `context`, `per`,
            `compare`, `stride` and `within_word` (see graft.tasks.score); for complete `n`.

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
    opened = model if isinstance(model, Model) else load(model, dtype=dtype)
    if opened.settings.prompt:
        from graft.recipes.worded import in_words  # what training needs is not waited for otherwise

        job = in_words(job, opened)
        if options and not job.options:
            raise UsageError(f"{opened.folder}: this model has labels of its own; leave {', '.join(options)} out")
    with watch.bar(task, len(texts)) as bar, overflowing(opened, job, overflow):
        return job.answer(opened, texts, bar.advance, **options)  # type: ignore[arg-type]
