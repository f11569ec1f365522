"""``graft evaluate``: how good a model is on labelled rows."""

from __future__ import annotations

from typing import Annotated

import typer

from graft.cli.options import AsJson, Columns, Dtype, Encoding, MaxRejects, Quiet, check_name, roles, watching
from graft.cli.output import write, write_json, write_metrics


def evaluate(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A folder, or a name on the hub.")],
    data: Annotated[str, typer.Argument(metavar="DATA", help="csv, tsv, jsonl (also .gz, .xz) or parquet.")],
    task: Annotated[str | None, typer.Option(metavar="TASK", help="Where the model does not say.")] = None,
    columns: Columns = None,
    encoding: Encoding = None,
    max_rejects: MaxRejects = 0,
    dtype: Dtype = "auto",
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Measure a model on labelled rows, with 95 % intervals."""
    if task is not None:
        check_name("task", task, "tasks")
    from graft.recipes.evaluate import evaluate as recipe

    done = recipe(
        model,
        data,
        task=task,
        columns=roles(columns),
        encoding=encoding,
        max_rejects=max_rejects,
        dtype=dtype,
        watch=watching(quiet),
    ).as_dict()
    if as_json:
        write_json(done)
        return
    write_metrics(done["metrics"])
    cut = f", {done['truncated_tokens']:,} tokens beyond the limit not read" if done["truncated_tokens"] else ""
    write(f"{done['task']} on {done['n']:,} rows in {done['seconds']:.1f} s{cut}")
