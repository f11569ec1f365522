"""``graft run``: a task on one text or on many, with a model as it is or as adapted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from graft.cli.context import read_context, task_options
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
from graft.cli.settings import settings
from graft.errors import UsageError

if TYPE_CHECKING:
    from graft.cli.answers import Sink
    from graft.cli.each import Each
    from graft.cli.texts import Found, Item
    from graft.heads import Answer
    from graft.recipes.watch import Watch

TASKS = "classify, pair, choice, similarity, embed, tag, ask, summarize, translate, generate or language."
TaskName = Annotated[str, Argument(metavar="TASK", help=TASKS)]
Given = Annotated[
    str | None,
    Argument(metavar="TEXT | FILE | -", help="A text; a .txt, .csv, .jsonl, .parquet or .conll file; - for stdin."),
]
Model_ = Annotated[
    str | None,
    Option(
        "--model",
        metavar="REF",
        help="A folder, or a name on the hub; most tasks need one; classify, too, or --labels.",
    ),
]
Labels = Annotated[
    list[str] | None, Option(metavar="A,B,C", help="Choose from these names, without training (zero-shot).")
]
Template = Annotated[
    str | None, Option(metavar="TEXT", help='With --labels: a sentence for them; default: "This text is about {}."')
]
Other = Annotated[str | None, Option("--with", metavar="TEXT", help="The text to compare with.")]
Context = Annotated[
    str | None, Option(metavar="TEXT | FILE | -", help="The text a question is about; all of the file.")
]
Choices = Annotated[str | None, Option(metavar="A|B|C", help="For choice: the choices, with | between.")]
Number = Annotated[int | None, Option("--n", "-n", metavar="N", help="How many answers to give; default: 1.")]
Threshold = Annotated[
    float | None, Option(metavar="P", help="Say 'no answer' where that is more probable than P; 1: always answer.")
]
Stride = Annotated[int | None, Option(metavar="N", help="Tokens from one window of a long text to the next.")]
Longest = Annotated[int | None, Option(metavar="N", help="Most tokens of an answer; default: 30.")]
Column = Annotated[str | None, Option(metavar="NAME", help="The column of the file that holds the texts.")]
Set = Annotated[
    list[str] | None,
    Option("--set", metavar="NAME=VALUE", help="A setting of a task that writes (see below); `top_p=0.9` alone does."),
]
Out = Annotated[str | None, Option(metavar="FILE", help="Write the answers to a .jsonl, .csv or .tsv file.")]


GRAFTS = {"pair": "entailment", "tag": "ner", "ask": "ask"}
"""The package's own models for tasks where the user names none."""

OTHERWISE = {
    "classify": ", or --labels a,b,c to choose from these names without training",
    "tag": ", or one published for token classification",
    "ask": ", or one published for extractive question answering",
    "translate": ", or one published for writing, such as t5-small",
}


def run(
    task: TaskName,
    text: Given = None,
    model: Model_ = None,
    labels: Labels = None,
    template: Template = None,
    other: Other = None,
    context: Context = None,
    choices: Choices = None,
    n: Number = None,
    threshold: Threshold = None,
    stride: Stride = None,
    longest: Longest = None,
    given: Set = None,
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
    _check_options(task, names, template, other, choices)
    own = {"labels": names or None, "template": template, "n": n, "threshold": threshold, "stride": stride}
    options = task_options(task, own | {"longest": longest}, context) | settings(task, given) | {"overflow": overflow}
    reference, chosen = model or _default_model(task, names), _columns(columns, column)
    watch, before = watching(quiet), None if context is None else read_context(context, text, encoding)
    from graft.cli import answers, writing

    if "dataset" in options:
        writing.dataset(text, reference, options, dtype=dtype, as_json=as_json, watch=watch)
        return
    with answers.written(out, task, as_json, watch) as sink:
        reading: dict[str, Any] = {"watch": watch, "task": task, "columns": chosen, "encoding": encoding}
        reading |= {"choices": choices, "max_rejects": max_rejects, "quotes": not no_quotes, "own": model is not None}
        found = _found(text, other, before, reading, options)
        sink.streamed = found.single and not (out or as_json) and writing.stream(task, options)
        if model is None:
            watch.note(f"model: {reference}, {_called(reference, task)}")
        each = _each(task, found.single, reference, dtype, watch, options)
        _answer(each, found, sink, _visible(watch, found, out))
    each.close()


def _answer(each: Each, found: Found, sink: Sink, watch: Watch) -> None:
    """Every text, chunk after chunk."""
    with watch.bar(each.task, found.total or 0, "texts") as bar:
        for chunk in found.chunks:
            sink.add(*each(chunk), single=found.single)
            bar.advance(len(chunk))


def _found(
    given: str | None, other: str | None, context: str | None, reading: dict[str, Any], options: dict[str, Any]
) -> Found:
    """The texts."""
    from graft.cli import texts

    choices = reading["choices"]
    reading |= {"choices": tuple(choice.strip() for choice in choices.split("|")) if choices is not None else ()}
    reading |= {"lines": options.pop("lines", False)}
    return texts.find(given, texts.Reading(other=other if context is None else context, **reading))


def _each(task: str, single: bool, reference: str, dtype: str, watch: Watch, options: dict[str, Any]) -> Each:
    """Load the model once, to answer chunk after chunk."""
    from graft.cli.each import Each
    from graft.loading import load
    from graft.recipes.run import run as recipe

    opened = load(reference, dtype=dtype)

    def answer(items: list[Item]) -> list[Answer]:
        own: dict[str, Any] = {"choices": [item.choices for item in items]} if task == "choice" else {}
        return recipe(task, [item.text for item in items], model=opened, **options, **own)

    return Each(answer, task, single, watch)


def _called(reference: str, task: str) -> str:
    picked = ": sentences are picked, not written; --model t5-small would write" if task == "summarize" else ""
    return "a graft of this package" if reference in GRAFTS.values() else f"the default encoder{picked}"


def _visible(watch: Watch, found: Found, out: str | None) -> Watch:
    """A bar only where it does not run into answers on the same terminal, and where the end is known."""
    from graft.recipes.watch import Watch

    clear = found.total is not None and not found.single and (out or not sys.stdout.isatty())
    return watch if clear else Watch(quiet=True)


def _check_options(task: str, names: list[str], template: str | None, other: str | None, choices: str | None) -> None:
    if task != "choice" and choices is not None:
        raise UsageError(f"--choices is for choice, not for {task}")
    if names and task not in ("classify", "pair"):
        raise UsageError(f"--labels is for classify and pair, not for {task}")
    if template is not None and not names and task in ("classify", "pair"):
        raise UsageError("--template goes with --labels, the names to choose from")
    if other is not None and task == "ask":
        raise UsageError("ask reads a question with a text: give --context TEXT|FILE instead of --with")
    if other is not None and (
        (names and task != "pair") or task in ("embed", "choice", "tag", "summarize", "translate", "generate")
    ):
        raise UsageError(f"--with is for tasks on two texts; {'--labels' if names else task} reads one at a time")


def _default_model(task: str, names: list[str]) -> str:
    """The encoder as it is, or the package's graft for the task.

    Raises:
        UsageError: neither can do it.
    """
    from graft.hub import shipped
    from graft.hub.wheels import ENCODER

    own = GRAFTS.get(task, "")
    if (names and task == "classify") or task in ("similarity", "embed", "summarize") or shipped.find(own):
        return ENCODER if names or not own else own
    if task == "generate":
        raise UsageError("generate needs a model that writes: give --model REF, such as gpt2, or a folder")
    raise UsageError(
        f"{task} needs a model: give --model DIR, one that `graft finetune --task {task}` made{OTHERWISE.get(task, '')}"
    )


def _columns(columns: list[str] | None, column: str | None) -> dict[str, str]:
    chosen = roles(columns)
    if column is not None and chosen.setdefault("text", column) != column:
        raise UsageError(f"--column says {column!r}, --columns says text={chosen['text']}; give one of them")
    return chosen
