"""``graft evaluate``: how good a model is on labelled rows."""

from __future__ import annotations

import pkgutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from graft.cli.options import (
    AsJson,
    Columns,
    Encoding,
    MaxRejects,
    NoQuotes,
    Overflow,
    Quiet,
    RunDtype,
    check_name,
    roles,
    watching,
)
from graft.cli.output import write, write_json, write_metrics
from graft.errors import UsageError

if TYPE_CHECKING:
    from graft.grafted import Model
    from graft.recipes.evaluate import Evaluation

Reference = Annotated[str, Argument(metavar="MODEL", help="A folder, or a name on the hub.")]
Data = Annotated[
    str,
    Argument(
        metavar="DATA | BENCHMARK",
        help="csv, tsv, jsonl, CoNLL .txt, SQuAD's json (also .gz, .xz) or parquet; or, with --data, a benchmark: "
        "lambada, perplexity or wikitext.",
    ),
]
File = Annotated[str | None, Option("--data", metavar="FILE", help="The data of the benchmark that DATA names.")]
TaskName = Annotated[str | None, Option(metavar="TASK", help="Where the model does not say.")]
Precision = Annotated[
    float | None,
    Option(metavar="SHARE", help="Say from which probability on this share of the answers is right on these rows."),
]
Report = Annotated[str | None, Option(metavar="FILE.html", help="Also write a page to look at: plots, worst mistakes.")]


def evaluate(
    model: Reference,
    data: Data,
    file: File = None,
    task: TaskName = None,
    columns: Columns = None,
    encoding: Encoding = None,
    max_rejects: MaxRejects = 0,
    no_quotes: NoQuotes = False,
    dtype: RunDtype = "auto",
    overflow: Overflow = None,
    precision: Precision = None,
    report: Report = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on labelled rows, with 95 % intervals."""
    if task is not None:
        check_name("task", task, "tasks")
    if report is not None and not report.lower().endswith((".html", ".htm")):
        raise UsageError(f"--report {report}: the report is a web page; name it *.html")
    chosen, benchmark = roles(columns), _benchmark(data, file)
    from graft.loading import load
    from graft.recipes.evaluate import evaluate as recipe

    opened, watch = load(model, dtype=dtype), watching(quiet)
    reading: dict[str, Any] = {"encoding": encoding, "max_rejects": max_rejects, "quotes": not no_quotes}
    reading |= {"overflow": overflow, "precision": precision, "benchmark": benchmark}
    done = recipe(opened, file or data, task=task, columns=chosen, dtype=dtype, watch=watch, **reading)
    if report is not None:
        _write_report(Path(report), opened, done)
        watch.note(f"report written to {report}")
    _show(done, report, as_json)


def _benchmark(data: str, file: str | None) -> str | None:
    """The benchmark that is meant; none where DATA is a file.

    Raises:
        UsageError: it is none, or its data is missing.
    """
    if file is not None:
        check_name("benchmark", data, "benchmarks")
        return data
    known = [module.name for module in pkgutil.iter_modules([str(Path(__file__).parent.parent / "benchmarks")])]
    if data in known and not Path(data).exists():
        raise UsageError(f"benchmark {data} needs its data, which does not come with this package: give --data FILE")
    return None


def _show(done: Evaluation, report: str | None, as_json: bool) -> None:
    facts = done.as_dict()
    if as_json:
        write_json(facts | ({"report": report} if report else {}))
        return
    write_metrics(facts["metrics"])
    cut = f", {facts['truncated_tokens']:,} tokens beyond the limit not read" if facts["truncated_tokens"] else ""
    read = f", long texts read in {facts['windows']:,} windows" if facts["windows"] else ""
    write(f"{done.task} on {done.n:,} rows in {done.seconds:.1f} s{cut}{read}")
    if done.reliance is not None:
        from graft.recipes.calibrate import described

        write(described(done.reliance))


def _write_report(path: Path, model: Model, done: Evaluation) -> None:
    """The scores and what lies behind them, as one page."""
    from graft import benchmarks
    from graft.evaluate import report
    from graft.recipes.evaluate import task_of, test_rows
    from graft.recipes.watch import Watch

    rows, named = test_rows(done.loaded, Watch(quiet=True)), done.task in benchmarks.names()
    job = benchmarks.find(done.task) if named else task_of(model, done.task)
    sections = [
        report.scores_section(done.metrics, rows=done.n, note=job.method()),
        *job.sections(model.head, done.judged.values, rows, done.metrics),  # type: ignore[arg-type]
    ]
    summary = {"Model": model.folder.name, "Task": done.task, "Rows scored": f"{done.n:,}"}
    page = report.Page(title=f"{done.task}: {done.loaded.path.name}", summary=summary, sections=sections)
    report.write_report(path, page)
