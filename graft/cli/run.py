"""``graft run``: a task on one text or on many, with a model as it is or as adapted."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from graft.cli.options import (
    AsJson,
    Columns,
    Dtype,
    Encoding,
    MaxRejects,
    NoQuotes,
    Overflow,
    Quiet,
    check_name,
    roles,
    watching,
)
from graft.errors import UsageError

if TYPE_CHECKING:
    from graft.cli.texts import Found, Item
    from graft.heads import Answer
    from graft.recipes.watch import Watch

TaskName = Annotated[str, Argument(metavar="TASK", help="classify, similarity, embed, summarize or translate.")]
Given = Annotated[
    str | None,
    Argument(metavar="TEXT | FILE | -", help="A text; a .txt, .csv, .tsv, .jsonl or .parquet file; - for stdin."),
]
Model_ = Annotated[
    str | None,
    Option("--model", metavar="REF", help="A folder, or a name on the hub; classify needs one, or --labels."),
]
Labels = Annotated[
    list[str] | None, Option(metavar="A,B,C", help="Choose from these names, without training (zero-shot).")
]
Template = Annotated[
    str | None, Option(metavar="TEXT", help='With --labels: a sentence for them; default: "This text is about {}."')
]
Other = Annotated[str | None, Option("--with", metavar="TEXT", help="The text to compare with.")]
Column = Annotated[str | None, Option(metavar="NAME", help="The column of the file that holds the texts.")]
Out = Annotated[str | None, Option(metavar="FILE", help="Write the answers to a .jsonl, .csv or .tsv file.")]


def run(
    task: TaskName,
    text: Given = None,
    model: Model_ = None,
    labels: Labels = None,
    template: Template = None,
    other: Other = None,
    column: Column = None,
    columns: Columns = None,
    encoding: Encoding = None,
    max_rejects: MaxRejects = 0,
    no_quotes: NoQuotes = False,
    out: Out = None,
    dtype: Dtype = "auto",
    overflow: Overflow = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Do a task on texts: one, a file of them, or standard input."""
    check_name("task", task, "tasks")
    names = [name.strip() for word in labels or () for name in word.split(",")]
    _check_options(task, names, template, other)
    reference, chosen = model or _default_model(task, names), _columns(columns, column)
    from graft.cli import answers, texts

    watch = watching(quiet)
    reading = texts.Reading(
        watch=watch,
        pairs=task == "similarity",
        other=other,
        columns=chosen,
        encoding=encoding,
        max_rejects=max_rejects,
        quotes=not no_quotes,
    )
    with answers.written(out, task, as_json, watch) as sink:
        found = texts.find(text, reading)
        if model is None:
            watch.note(f"model: {reference}, the default encoder")
        options: dict[str, Any] = {"labels": names, "template": template} if names else {}
        options["overflow"] = overflow
        for items, given in _answered(task, found, reference, dtype, _visible(watch, found, out), options):
            sink.add(items, given, single=found.single)


def _answered(
    task: str, found: Found, reference: str, dtype: str, watch: Watch, options: dict[str, Any]
) -> Iterator[tuple[list[Item], list[Answer]]]:
    """Load the model once, then answer chunk after chunk."""
    from graft.loading import load
    from graft.recipes.run import run as recipe

    opened = load(reference, dtype=dtype)
    given = {name: value for name, value in options.items() if value is not None}
    with watch.bar(task, found.total or 0, "texts") as bar:
        for items in found.chunks:
            yield items, recipe(task, [item.text for item in items], model=opened, **given)
            bar.advance(len(items))


def _visible(watch: Watch, found: Found, out: str | None) -> Watch:
    """A bar only where it does not run into answers on the same terminal, and where the end is known."""
    from graft.recipes.watch import Watch

    clear = found.total is not None and not found.single and (out or not sys.stdout.isatty())
    return watch if clear else Watch(quiet=True)


def _check_options(task: str, names: list[str], template: str | None, other: str | None) -> None:
    if names and task != "classify":
        raise UsageError(f"--labels is for classify, not for {task}")
    if template is not None and not names:
        raise UsageError("--template goes with --labels, the names to choose from")
    if other is not None and (names or task == "embed"):
        raise UsageError(f"--with is for tasks on two texts; {'--labels' if names else task} reads one at a time")


def _default_model(task: str, names: list[str]) -> str:
    if task == "classify" and not names:
        raise UsageError(
            "classify needs a model: give --model DIR, one that `graft finetune` made, "
            "or --labels a,b,c to choose from these names without training"
        )
    from graft.hub.wheels import ENCODER

    return ENCODER


def _columns(columns: list[str] | None, column: str | None) -> dict[str, str]:
    chosen = roles(columns)
    if column is not None and chosen.setdefault("text", column) != column:
        raise UsageError(f"--column says {column!r}, --columns says text={chosen['text']}; give one of them")
    return chosen
