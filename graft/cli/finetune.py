"""``graft finetune``: from a file of rows and a pretrained model to a model of your own."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

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
    settings,
    watching,
)
from graft.cli.output import write, write_json, write_metrics

Data = Annotated[
    str, Argument(metavar="DATA", help="csv, tsv, jsonl, CoNLL .txt, SQuAD's json (also .gz, .xz) or parquet.")
]
TASKS = "classify, pair, choice, similarity, embed, tag, ask, summarize, translate or language."
TaskName = Annotated[str, Option(metavar="TASK", help=TASKS)]
Base = Annotated[
    str | None,
    Option(metavar="REF", help="A folder, or a name on the hub; default: sentence-transformers/all-MiniLM-L6-v2."),
]
Strategy = Annotated[str, Option(metavar="NAME", help="What learns, as listed below.")]
Eval = Annotated[
    str | None, Option(metavar="FILE", help="Rows to measure on; default: the split column, else a fifth set aside.")
]
Out = Annotated[str | None, Option(metavar="DIR", help="Where to save; default: runs/DATA-TASK-STRATEGY.")]
Epochs = Annotated[
    int | None, Option(metavar="N", help="Times through the data; default: 3, or more where they are few.")
]
BatchSize = Annotated[int | None, Option(metavar="N", help="Rows to a step; default: 32.")]
Rate = Annotated[
    float | None,
    Option(metavar="X", help="Highest learning rate; default: the strategy's. A fresh head's is head_rate if higher."),
]
Warmup = Annotated[float | None, Option(metavar="X", help="Share of the steps spent rising to it; default: 0.06.")]
Seed = Annotated[int | None, Option(metavar="N", help="Of everything random; default: 0.")]
Weights = Annotated[str | None, Option(metavar="balanced", help="Weigh labels inversely to how often they occur.")]
Patience = Annotated[
    int | None, Option(metavar="N", help="Stop after N epochs without a better score on a tenth set aside.")
]
Auxiliary = Annotated[
    float | None,
    Option(metavar="X", help="Weight of a language model's loss beside the task's; default: 0.5 for GPT-1, else 0."),
]
Limit = Annotated[int | None, Option(metavar="N", help="Longest input in tokens; default: the model's.")]
Template = Annotated[
    str | None,
    Option(metavar="TEXT", help="For models that read and write text: the words around a text, with {} in its place."),
]
Form = Annotated[
    str | None,
    Option(metavar="FORM", help="head, or text: labels are written; default: text for encoder-decoders, else head."),
]
Set = Annotated[
    list[str] | None,
    Option("--set", metavar="NAME=VALUE", help="A setting of the strategy (see below); `decay=0` alone does, too."),
]
Calibrate = Annotated[
    bool | None,
    Option(
        "--calibrate/--no-calibrate",
        help="Set rows aside to make probabilities mean what they say; default: where 200 can be spared.",
    ),
]
Precision = Annotated[
    float | None,
    Option(metavar="SHARE", help="Mark answers as abstained that are less sure than this share of right ones takes."),
]


def finetune(
    data: Data,
    task: TaskName = "classify",
    model: Base = None,
    strategy: Strategy = "full",
    eval: Eval = None,
    out: Out = None,
    columns: Columns = None,
    epochs: Epochs = None,
    batch_size: BatchSize = None,
    learning_rate: Rate = None,
    warmup: Warmup = None,
    seed: Seed = None,
    dtype: Dtype = "auto",
    class_weights: Weights = None,
    patience: Patience = None,
    auxiliary: Auxiliary = None,
    limit: Limit = None,
    overflow: Overflow = None,
    calibrate: Calibrate = None,
    precision: Precision = None,
    template: Template = None,
    form: Form = None,
    set: Set = None,
    encoding: Encoding = None,
    max_rejects: MaxRejects = 0,
    no_quotes: NoQuotes = False,
    as_json: AsJson = False,
    quiet: Quiet = False,
) -> None:
    """Adapt a model to your rows, measure it, and save it."""
    given = {name: value for name, value in locals().items() if value is not None}
    for name in ("columns", "set", "no_quotes", "as_json", "quiet"):
        given.pop(name, None)
    check_name("task", task, "tasks")
    check_name("strategy", strategy, "transfer")
    given |= {"columns": roles(columns), "settings": settings(set), "quotes": not no_quotes}
    record = _finetune(given, quiet)
    if as_json:
        write_json(record)
    else:
        _show(record)


def _finetune(given: dict[str, Any], quiet: bool) -> dict[str, Any]:
    """Run the recipe with what the user gave; all else is the recipe's own default."""
    from graft.recipes.finetune import finetune as recipe

    watch = watching(quiet)
    if "out" not in given:
        given["out"] = default_out(given["data"], given["task"], given["strategy"])
        watch.note(f"saving to {given['out']}; --out chooses another place")
    return recipe(watch=watch, **given).as_dict()


def default_out(data: str, task: str, strategy: str) -> str:
    """The folder for a run whose user named none.

    >>> default_out("data/tickets.csv.gz", "classify", "full")
    'runs/tickets-classify-full'
    """
    return f"runs/{Path(data).name.split('.')[0] or 'data'}-{task}-{strategy}"


def _show(record: dict[str, Any]) -> None:
    if "before" in record:
        write("before learning:")
        write_metrics(record["before"])
        write("after:")
    write_metrics(record["metrics"])
    tested, rows = record["evaluated_on"], record["rows"]
    write(f"measured on {tested['n']:,} rows: {tested['data']}")
    verb = "asked with examples from" if record["strategy"] == "prompt" else "learned from"
    write(
        f"{verb} {record['trained_on']:,} of {rows['read']:,} rows ({rows['rejected']:,} rejected) "
        f"in {record['seconds']:.1f} s"
    )
    write_trust(record)
    write(f"saved to {record['out']}")


def write_trust(record: dict[str, Any]) -> None:
    """How far the probabilities can be trusted."""
    if found := record["calibration"]:
        before, after = found["before"], found["after"]
        write(
            f"calibrated on {found['rows']:,} rows, temperature {found['temperature']:.3f}: on the measured rows ECE "
            f"{before['ece']:.3f} before, {after['ece']:.3f} after; Brier score {before['brier']:.3f}, "
            f"{after['brier']:.3f}"
        )
    if rule := record["abstention"]:
        write(f"abstains below probability {rule['threshold']:.4f}, for a precision of {rule['precision']:g}")
