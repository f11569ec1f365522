"""Evaluate: how good a model is on rows it has not seen, with intervals."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from graft import benchmarks, tasks
from graft.errors import DataError, UsageError
from graft.evaluate.calibrate import Reliance
from graft.evaluate.metrics import Interval
from graft.grafted import Model
from graft.loading import load
from graft.recipes.calibrate import check_precision, relied, threshold
from graft.recipes.learning import plain
from graft.recipes.overflow import overflowing
from graft.recipes.rows import Loaded, load_rows, naming
from graft.recipes.watch import Watch
from graft.recipes.worded import in_words
from graft.tasks import Row, Task


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A model's outputs for rows, and what they are worth."""

    values: Any
    metrics: dict[str, Interval]
    truncated_tokens: int
    seconds: float
    windows: int = 0


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """The result of `evaluate`.

    Attributes:
        model: what was evaluated.
        task: on which task.
        n: rows scored.
        metrics: each with a 95 % interval.
        rows: rows read, kept and rejected.
        judged: the raw outputs.
        loaded: the rows themselves.
        reliance: from which probability on these rows' answers reach the precision asked for.
    """

    model: str
    task: str
    n: int
    metrics: dict[str, Interval]
    rows: dict[str, int]
    seconds: float
    judged: Judged
    loaded: Loaded
    reliance: Reliance | None = None

    def as_dict(self) -> dict[str, Any]:
        """What ``--json`` prints."""
        return {
            "model": self.model,
            "task": self.task,
            "data": str(self.loaded.path),
            "n": self.n,
            "rows": self.rows,
            "metrics": plain(self.metrics),
            "truncated_tokens": self.judged.truncated_tokens,
            "windows": self.judged.windows,
            "reliance": None if self.reliance is None else dataclasses.asdict(self.reliance),
            "seconds": round(self.seconds, 3),
            "rows_per_second": round(self.n / self.seconds, 1),
        }


def judge(model: Model, task: Task, rows: Sequence[Row], watch: Watch) -> Judged:
    """Score rows with a model that has the task's head.

    Raises:
        DataError: a label the model does not have.
    """
    began = time.perf_counter()
    with torch.inference_mode(), watch.bar("evaluating", len(rows)) as bar:
        outputs = task.outputs(model, rows, bar.advance)
    seconds = time.perf_counter() - began
    for note in outputs.notes:
        watch.note(f"note: {note}")
    metrics = task.measure(model.head, outputs.values, rows)  # type: ignore[arg-type]
    return Judged(
        values=outputs.values,
        metrics=metrics | relied(model, task, outputs.values, rows),
        truncated_tokens=outputs.truncated_tokens,
        seconds=seconds,
        windows=outputs.windows,
    )


def task_of(model: Model, asked: str | None = None) -> Task:
    """The task a model was adapted to, or the one its head allows.

    Raises:
        UsageError: the model has no head that fits a task, or not the task asked for.
    """
    if model.settings.prompt and model.settings.task and asked in (None, model.settings.task):
        return in_words(tasks.find(model.settings.task), model)
    kind = model.head.kind if model.head else None
    fits = tasks.of_head(kind)
    if model.settings.task in tasks.names() and kind in tasks.find(str(model.settings.task)).also:
        fits = [str(model.settings.task)]
    name = asked or model.settings.task or (fits[0] if fits else None)
    if name is None or name not in fits:
        what = f"fits {', '.join(fits)}" if fits else "has no head for any task; adapt it first with `graft finetune`"
        raise UsageError(f"{model.folder}: {f'asked for task {asked!r}, but ' if asked else ''}the model {what}")
    return tasks.find(name)


def evaluate(
    model: str | Path | Model,
    data: str | Path,
    *,
    task: str | None = None,
    benchmark: str | None = None,
    columns: Mapping[str, str] | None = None,
    encoding: str | None = None,
    max_rejects: int = 0,
    quotes: bool = True,
    dtype: str = "auto",
    overflow: str | None = None,
    precision: float | None = None,
    watch: Watch | None = None,
) -> Evaluation:
    """Measure an adapted model on a labelled file.

    Args:
        model: a folder, a name, or a loaded model.
        data: csv, tsv, jsonl or parquet with the task's columns. A column `split` chooses its test rows.
        task: where the model does not say.
        benchmark: a public benchmark to measure the model by instead, as it is: "lambada", "perplexity" or "wikitext".
        columns: role -> column, where the names do not say.
        encoding: of the file, if not UTF-8.
        max_rejects: rows that may be unusable.
        quotes: whether fields of csv and tsv may be quoted.
        dtype: what to compute in.
        overflow: what happens to texts longer than the model; None: what the model says.
        precision: also say from which probability on answers reach this share of right ones; the model stays as it is.
        watch: where notices and progress go; silent by default.

    Raises:
        GraftError: the model or the data cannot be used; the message says what to do.
    """
    watch = watch or Watch(quiet=True)
    opened = model if isinstance(model, Model) else load(model, dtype=dtype)
    job = task_of(opened, task) if benchmark is None else _benchmark(benchmark, opened, task)
    reading: dict[str, Any] = {"columns": columns, "encoding": encoding, "max_rejects": max_rejects, "quotes": quotes}
    check_precision(opened, job, precision)
    loaded = load_rows(job, data, watch=watch, **reading)
    rows = test_rows(loaded, watch)
    with naming(data), overflowing(opened, job, overflow):
        judged = judge(opened, job, rows, watch)
        chosen = threshold(opened, job, judged.values, rows, precision)
    return _evaluation(opened, job, loaded, rows, judged, chosen)


def _benchmark(name: str, model: Model, task: str | None) -> Task:
    if task is not None:
        raise UsageError(f"give a benchmark ({name}) or a task ({task}), not both")
    found = benchmarks.find(name)
    found.check(model)
    return found


def _evaluation(
    model: Model, job: Task, loaded: Loaded, rows: Sequence[Row], judged: Judged, chosen: Reliance | None
) -> Evaluation:
    return Evaluation(
        model=str(model.folder),
        task=job.name,
        n=len(rows),
        metrics=judged.metrics,
        rows=loaded.counts(),
        seconds=judged.seconds,
        judged=judged,
        loaded=loaded,
        reliance=chosen,
    )


def test_rows(loaded: Loaded, watch: Watch) -> list[Row]:
    """The rows to score: the test side where the file has a column that says so, else all.

    Raises:
        DataError: there are none.
    """
    rows = loaded.rows
    if loaded.sides and "test" in loaded.sides and set(loaded.sides) != {"test"}:
        rows = [row for row, where in zip(rows, loaded.sides, strict=True) if where == "test"]
        watch.note(f"{loaded.path}: scoring the {len(rows):,} rows whose split column says test")
    if not rows:
        raise DataError(f"{loaded.path}: no rows to score")
    return rows
