"""The verbs, put together. Nothing heavy is imported before a verb runs."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from graft.cli import contrast, convert, doctor, evaluate, finetune, models, run, show
from graft.cli.options import Verb
from graft.cli.output import write
from graft.version import __version__

HELP = """Put a pretrained language model to work on your task: use it, adapt it, prove how good it is.

Results go to standard output, notices and progress to standard error. Every verb takes --json. Options may also be
written as key=value words after the arguments: graft finetune train.csv epochs=3 out=my-model
"""

VERBS = (
    run.run,
    finetune.finetune,
    evaluate.evaluate,
    contrast.contrast,
    models.pull,
    models.models,
    convert.convert,
    show.show,
    doctor.doctor,
)

app = typer.Typer(
    help=HELP,
    add_completion=False,
    rich_markup_mode=None,
    subcommand_metavar="VERB ...",
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in VERBS:
    app.command(cls=Verb)(verb)


def _version(asked: bool) -> None:
    if asked:
        write(f"graft {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def graft(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Without a verb, show the help page: that is wrong use."""
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(2)


def command() -> Any:
    """The parser of the whole command line."""
    return typer.main.get_command(app)
