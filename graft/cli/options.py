"""Options that several verbs share, and options written as key=value words."""

from __future__ import annotations

import ast
import logging
import pkgutil
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from graft.errors import UsageError, nearest

if TYPE_CHECKING:
    from graft.recipes.watch import Watch

AsJson = Annotated[bool, typer.Option("--json", help="Print JSON, for programs; errors as well, on standard error.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No notices and no progress on standard error.")]
Dtype = Annotated[str, typer.Option(metavar="TYPE", help="Compute in auto, float32, bfloat16 or float16.")]
RunDtype = Annotated[
    str,
    typer.Option(
        "--dtype",
        metavar="TYPE",
        help="Compute in auto, float32, bfloat16 or float16; int8: auto, with weights of eight bits.",
    ),
]
Encoding = Annotated[str | None, typer.Option(metavar="NAME", help="Encoding of the files, if not UTF-8.")]
MaxRejects = Annotated[int, typer.Option(metavar="N", min=0, help="How many unusable rows to leave out.")]
NoQuotes = Annotated[bool, typer.Option("--no-quotes", help="In csv and tsv, quotes are characters like any other.")]
Columns = Annotated[
    list[str] | None,
    typer.Option(metavar="ROLE=COLUMN", help="Which column plays which role, as in text=body,label=topic."),
]

Overflow = Annotated[
    str | None,
    typer.Option(
        metavar="RULE",
        help="What texts longer than the model meet: truncate, head_tail (beginning and end), window (all is read) or "
        "error; default: as the model says, at first truncate.",
    ),
]

RUN = "run"
"""The verb whose tasks have settings of their own."""

YES, NO = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


class Verb(TyperCommand):
    """A command whose options may also be written as key=value words after its arguments."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Turn key=value words, and settings of tasks, into options, then parse."""
        params = self.get_params(ctx)
        if self.name != RUN:
            return super().parse_args(ctx, list(as_options(params, args)))
        from graft.cli import settings

        options = [name for param in params for name in param.opts]
        words = as_options(params, settings.as_settings(args, options), settings.table())
        with settings.suggesting(options):
            return super().parse_args(ctx, list(words))

    def format_epilog(self, ctx: Any, formatter: Any) -> None:
        """After the options of a verb that takes a strategy, the strategies; of `run`, the settings of its tasks."""
        super().format_epilog(ctx, formatter)
        if self.name == RUN:
            from graft.cli import settings

            with formatter.section("Settings of tasks that write, as --name value or name=value"):
                formatter.write_dl(settings.listed())
        if any("--strategy" in param.opts for param in self.get_params(ctx)):
            with formatter.section("Strategies, and their settings with defaults"):
                formatter.write_dl(strategies())


def strategies() -> list[tuple[str, str]]:
    """Each strategy with its first line and its settings, read from its file: importing it would take seconds."""
    folder = Path(__file__).parent.parent / "transfer"
    shared = {node.name: _fields(node) for node in _classes(folder / "__init__.py")}
    found = []
    for file in sorted(folder.glob("[!_]*.py")):
        first = (ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))) or "").partition("\n")[0]
        fields: dict[str, str] = {}
        for node in _classes(file):
            inherited = [one for base in node.bases for one in shared.get(ast.unparse(base), {}).items()]
            fields |= _fields(node)
            fields |= {name: value for name, value in inherited if name not in fields}
        found.append((file.stem, " ".join([first, *(f"{name}={value}" for name, value in fields.items())])))
    return found


def _classes(file: Path) -> list[ast.ClassDef]:
    return [node for node in ast.parse(file.read_text(encoding="utf-8")).body if isinstance(node, ast.ClassDef)]


def _fields(node: ast.ClassDef) -> dict[str, str]:
    """The settings a class has of its own, with their defaults."""
    return {
        ast.unparse(field.target): ast.unparse(field.value)
        for field in node.body
        if isinstance(field, ast.AnnAssign) and field.value and "ClassVar" not in ast.unparse(field.annotation)
    }


def as_options(params: Sequence[Any], words: Iterable[str], settings: Collection[str] | None = None) -> Iterator[str]:
    """Rewrite key=value words that follow a command's arguments as ``--key=value``.

    Args:
        params: of the command.
        words: of the command line.
        settings: what may stand behind --set; None: anything that is no option.

    Raises:
        UsageError: there is no such option, or a switch is neither on nor off.
    """
    options = {name.lstrip("-"): param for param in params for name in param.opts if name.startswith("-")}
    arguments = sum(param.param_type_name == "argument" for param in params)
    rest = iter(words)
    for word in rest:
        if word == "--":
            yield from (word, *rest)
        elif word.startswith("-") and word != "-":
            yield word
            option = options.get(word.lstrip("-"))
            if option is not None and not option.is_flag:
                yield from (following for following in [next(rest, None)] if following is not None)
        elif arguments or "=" not in word:
            arguments -= 1
            yield word
        else:
            yield from _option(word, options, settings)


def _option(word: str, options: dict[str, Any], settings: Collection[str] | None) -> list[str]:
    key, _, value = word.partition("=")
    name = key.replace("_", "-")
    if name not in options and "set" in options and (settings is None or key.replace("-", "_") in settings):
        return [f"--set={word}"]
    if name not in options:
        known = [*(one for one in options if len(one) > 1), *(one.replace("_", "-") for one in settings or ())]
        raise UsageError(f"unknown option {key!r}: {nearest(name, known)}")
    if not options[name].is_flag:
        return [f"--{name}={value}"]
    if value.lower() not in (*YES, *NO):
        raise UsageError(f"{word}: {key} is on or off; write {key}=true or {key}=false")
    return [f"--{name}"] if value.lower() in YES else []


def settings(given: Sequence[str] | None) -> dict[str, str]:
    """Settings by name, from words such as ``rank=16``.

    Raises:
        UsageError: a word without ``=``, or a name given twice.
    """
    chosen: dict[str, str] = {}
    for word in given or ():
        name, sign, value = word.partition("=")
        if not sign or not name:
            raise UsageError(f"--set {word!r}: expected NAME=VALUE, as in rank=16")
        if name in chosen:
            raise UsageError(f"--set gives {name!r} twice")
        chosen[name.replace("-", "_")] = value
    return chosen


def roles(given: Sequence[str] | None) -> dict[str, str]:
    """Columns by role, from words such as ``text=body,label=topic``.

    Raises:
        UsageError: a word without ``=``, or a role named twice.

    >>> roles(["text=body,label=topic"])
    {'text': 'body', 'label': 'topic'}
    """
    chosen: dict[str, str] = {}
    for pair in (part for word in given or () for part in _pairs(word)):
        role, sign, column = pair.partition("=")
        if not sign or not role.strip() or not column:
            raise UsageError(f"--columns {pair!r}: expected ROLE=COLUMN, as in text=body")
        if role.strip() in chosen:
            raise UsageError(f"--columns names {role.strip()!r} twice")
        chosen[role.strip()] = column
    return chosen


def _pairs(word: str) -> list[str]:
    """Cut at commas; a part without ``=`` belongs to the column before it, whose name holds a comma."""
    pairs: list[str] = []
    for part in word.split(","):
        if pairs and "=" not in part:
            pairs[-1] += f",{part}"
        else:
            pairs.append(part)
    return pairs


def check_name(what: str, name: str, package: str) -> None:
    """Refuse a misspelt task at once, by the package's own listing, without importing it.

    Raises:
        UsageError: there is none of that name.
    """
    place = Path(__file__).parent.parent / package
    names = [module.name for module in pkgutil.iter_modules([str(place)])]
    if name not in names:
        raise UsageError(f"unknown {what} {name!r}: {nearest(name, names)}")


def watching(quiet: bool) -> Watch:
    """Where notices and progress go."""
    from graft.recipes.watch import Watch

    if quiet:
        logging.getLogger("graft").setLevel(logging.ERROR)
    return Watch(quiet=quiet)
