"""``graft run``: a task on one text or on many, with a model as it is or as adapted."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

from typer import Argument, Option

from graft.cli.context import read_context, task_options
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
from graft.cli.settings import settings, typed
from graft.errors import UsageError

if TYPE_CHECKING:
    from graft.cli.answers import Sink
    from graft.cli.each import Each
    from graft.cli.texts import Found, Item
    from graft.heads import Answer
    from graft.recipes.watch import Watch

TASKS = (
    "classify, pair, choice, similarity, embed, tag, ask, generate, summarize, translate, score, complete, correct or "
    "language."
)
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
    str | None,
    Option(metavar="TEXT | FILE | -", help="The text a question is about, or scored texts follow; all of the file."),
]
Choices = Annotated[str | None, Option(metavar="A|B|C", help="For choice: the choices, with | between.")]
Number = Annotated[
    int | None, Option("--n", "-n", metavar="N", help="How many answers to give; default: 1; words to complete: 3.")
]
Threshold = Annotated[
    float | None, Option(metavar="P", help="Say 'no answer' where that is more probable than P; 1: always answer.")
]
Stride = Annotated[int | None, Option(metavar="N", help="Tokens from one window of a long text to the next.")]
Longest = Annotated[int | None, Option(metavar="N", help="Most tokens of an answer; default: 30.")]
Per = Annotated[
    str | None,
    Option(metavar="token|word", help="For score: also that of each token or word; unlikely ones are in colour."),
]
Compare = Annotated[bool, Option("--compare", help="For score: rank the texts, the most probable first.")]
WithinWord = Annotated[
    bool, Option("--within-word", help="For score with mask heads: hide the rest of a word with each of its pieces.")
]
Words = Annotated[
    str | None,
    Option(
        metavar="LIST",
        help="For summarize: most words. For correct: english (the package's list), a number of its most frequent "
        "words, a file with a word on each line, with its count or without, or several of these with commas between; "
        "default: english.",
    ),
]
RealWords = Annotated[
    bool, Option("--real-words", help="For correct: words of the list may be mistyped for one another; needs --model.")
]
Column = Annotated[str | None, Option(metavar="NAME", help="The column of the file that holds the texts.")]
Set = Annotated[
    list[str] | None,
    Option("--set", metavar="NAME=VALUE", help="A setting of a task that writes (see below); `top_p=0.9` alone does."),
]
Out = Annotated[str | None, Option(metavar="FILE", help="Write the answers to a .jsonl, .csv or .tsv file.")]


GRAFTS = {"pair": "entailment", "tag": "ner", "ask": "ask"}
"""The package's own models for tasks where the user names none."""

WITHOUT = {
    "correct": "no model: how frequent words are decides, not the sentence; give --model, one that tells the next word "
    "(GPT-2) or fills masks (BERT)"
}
"""What is done by a task that was given no model and has none of its own."""

OTHERWISE = {
    "classify": ", or --labels a,b,c to choose from these names without training",
    "tag": ", or one published for token classification",
    "ask": ", or one published for extractive question answering",
    "translate": ", or one published for writing, such as t5-small",
    "score": ", or one published for language modelling, such as gpt2 or bert-base-uncased",
    "complete": ", or one published for language modelling, such as gpt2 or bert-base-uncased",
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
    per: Per = None,
    compare: Compare = False,
    within_word: WithinWord = False,
    words: Words = None,
    real_words: RealWords = False,
    given: Set = None,
    column: Column = None,
    columns: Columns = None,
    encoding: Encoding = None,
    max_rejects: MaxRejects = 0,
    no_quotes: NoQuotes = False,
    out: Out = None,
    dtype: RunDtype = "auto",
    overflow: Overflow = None,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Do a task on texts: one, a file of them, or standard input."""
    check_name("task", task, "tasks")
    own: dict[str, Any] = {"labels": _names(task, labels, template, other, choices) or None, "template": template}
    own |= {"n": n, "stride": stride, "threshold": threshold, "longest": longest, "per": per, "words": words}
    own |= {"compare": compare or None, "within_word": within_word or None, "real_words": real_words or None}
    options = typed(task, task_options(task, own, context)) | settings(task, given) | {"overflow": overflow}
    reading: dict[str, Any] = {"watch": watching(quiet), "task": task, "columns": _columns(columns, column)}
    reading |= {"encoding": encoding, "choices": choices, "max_rejects": max_rejects, "quotes": not no_quotes}
    before = None if context is None else read_context(context, text, encoding)
    _run(text, model, other, before, reading, options, out=out, dtype=dtype, as_json=as_json)


def _run(
    given: str | None,
    model: str | None,
    other: str | None,
    context: str | None,
    reading: dict[str, Any],
    options: dict[str, Any],
    *,
    out: str | None,
    dtype: str,
    as_json: bool,
) -> None:
    """What the words of the command line come to."""
    task, watch = reading["task"], reading["watch"]
    reference = model or _default_model(task, "labels" in options)
    from graft.cli import answers, writing

    if "dataset" in options:
        writing.dataset(given, str(reference), options, dtype=dtype, as_json=as_json, watch=watch)
        return
    with answers.written(out, task, as_json, watch) as sink:
        found = _found(given, other, context, reading | {"own": model is not None}, options)
        sink.streamed = found.single and not (out or as_json) and writing.stream(task, options)
        _say_model(watch, task, model, reference)
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
    """The texts; what `score` compares all at once."""
    from graft.cli import texts

    choices = reading["choices"]
    reading |= {"choices": tuple(choice.strip() for choice in choices.split("|")) if choices is not None else ()}
    reading |= {"lines": options.pop("lines", False)}
    if reading["task"] != "score":
        return texts.find(given, texts.Reading(other=other if context is None else context, **reading))
    options |= {} if context is None else {"context": context}
    options |= {} if other is None else {"compare": True}
    found = texts.find(given, texts.Reading(**reading))
    return texts.together(found, other) if options.get("compare") else found


def _each(task: str, single: bool, reference: str | None, dtype: str, watch: Watch, options: dict[str, Any]) -> Each:
    """Load the model once, to answer chunk after chunk."""
    from graft.cli.each import Each
    from graft.loading import load
    from graft.recipes.run import run as recipe

    opened = load(reference, dtype=dtype) if reference else None

    def answer(items: list[Item]) -> list[Answer]:
        own: dict[str, Any] = {"choices": [item.choices for item in items]} if task == "choice" else {}
        return recipe(task, [item.text for item in items], model=opened, **options, **own)

    return Each(answer, task, single, watch)


def _say_model(watch: Watch, task: str, given: str | None, reference: str | None) -> None:
    """What is used where the user named no model."""
    if given is None:
        picked = ": sentences are picked, not written; --model t5-small would write" if task == "summarize" else ""
        own = "a graft of this package" if reference in GRAFTS.values() else f"the default encoder{picked}"
        watch.note(f"model: {reference}, {own}" if reference else WITHOUT[task])


def _visible(watch: Watch, found: Found, out: str | None) -> Watch:
    """A bar only where it does not run into answers on the same terminal, and where the end is known."""
    from graft.recipes.watch import Watch

    clear = found.total is not None and not found.single and (out or not sys.stdout.isatty())
    return watch if clear else Watch(quiet=True)


def _names(
    task: str, labels: list[str] | None, template: str | None, other: str | None, choices: str | None
) -> list[str]:
    """The labels to choose from, after a look at whether the options go together."""
    names = [name.strip() for word in labels or () for name in word.split(",")]
    _check_options(task, names, template, other, choices)
    return names


def _check_options(task: str, names: list[str], template: str | None, other: str | None, choices: str | None) -> None:
    if task != "choice" and choices is not None:
        raise UsageError(f"--choices is for choice, not for {task}")
    if names and task not in ("classify", "pair"):
        raise UsageError(f"--labels is for classify and pair, not for {task}")
    if template is not None and not names and task in ("classify", "pair"):
        raise UsageError("--template goes with --labels, the names to choose from")
    if other is not None and task == "ask":
        raise UsageError("ask reads a question with a text: give --context TEXT|FILE instead of --with")
    alone = ("embed", "choice", "tag", "generate", "summarize", "translate", "complete", "correct")
    if other is not None and ((names and task != "pair") or task in alone):
        raise UsageError(f"--with is for tasks on two texts; {'--labels' if names else task} reads one at a time")


def _default_model(task: str, names: bool) -> str | None:
    """The encoder as it is, or the package's graft for the task; None for a task that does without.

    Raises:
        UsageError: neither can do it.
    """
    from graft.hub import shipped
    from graft.hub.wheels import ENCODER

    if task in WITHOUT:
        return None
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
