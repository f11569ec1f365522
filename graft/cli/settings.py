"""Settings of the tasks that write: any of them as ``--name value`` or ``name=value``, read from one table."""

from __future__ import annotations

import contextlib
import dataclasses
import difflib
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from graft.errors import UsageError, nearest
from graft.generate.sampling import WHOLE, Sampling

WRITING = ("generate", "summarize", "translate", "ask")
YES, NO = ("true", "yes", "1", "on"), ("false", "no", "0", "off")


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting.

    Attributes:
        help: what it does.
        read: from a word to the value a task takes.
        tasks: those that take it.
        several: given more than once, all count.
        name: what the task calls it, where that is another name.
    """

    help: str
    read: Callable[[str, str], Any]
    tasks: tuple[str, ...] = WRITING
    several: bool = False
    name: str = ""


def _whole(name: str, word: str) -> int:
    try:
        return int(word)
    except ValueError as error:
        raise UsageError(f"{name} is {word!r:.40}, expected a whole number") from error


def _real(name: str, word: str) -> float:
    try:
        return float(word)
    except ValueError as error:
        raise UsageError(f"{name} is {word!r:.40}, expected a number") from error


def _text(name: str, word: str) -> str:
    return word


def _switch(name: str, word: str) -> bool:
    if word.lower() not in (*YES, *NO):
        raise UsageError(f"{name} is {word!r:.40}, expected true or false")
    return word.lower() in YES


def _early(name: str, word: str) -> bool | str:
    return word if word == "never" else _switch(name, word)


def _escaped(name: str, word: str) -> str:
    r"""A text in which \n and \t stand for what they do.

    >>> _escaped("stop", r"\n\n")
    '\n\n'
    """
    return re.sub(r"\\([nt\\])", lambda match: {"n": "\n", "t": "\t", "\\": "\\"}[match[1]], word)


def _ids(name: str, word: str) -> list[int]:
    return [_whole(f"an entry of {name}", part.strip()) for part in word.split(",")]


def _biases(name: str, word: str) -> dict[int, float]:
    pairs = [part.partition("=" if "=" in part else ":") for part in word.split(",")]
    return {_whole(f"a token of {name}", token.strip()): _real(name, value.strip()) for token, _, value in pairs}


_READ: Mapping[str, Callable[[str, str], Any]] = {
    "bad_words": _text,
    "stop": _escaped,
    "logit_bias": _biases,
    "allowed": _ids,
    "ignore_end": _switch,
}

OWN: Mapping[str, Setting] = {
    "beams": Setting(help="Search for the most probable texts with so many followed side by side.", read=_whole),
    "length_penalty": Setting(help="With beams: above 0 longer texts do better, below 0 shorter ones.", read=_real),
    "early_stopping": Setting(help="With beams: true, false or never.", read=_early),
    "groups": Setting(help="With beams: so many groups of them, each kept apart from those before it.", read=_whole),
    "diversity": Setting(help="With groups: how strongly they are kept apart.", read=_real),
    "words": Setting(help="Most words of a summary.", read=_whole, tasks=("summarize",)),
    "characters": Setting(
        help="Most characters of a summary: never longer, 155 for a search engine.", read=_whole, tasks=("summarize",)
    ),
    "sentences": Setting(
        help="Sentences of a summary that is picked, not written; default: 3.", read=_whole, tasks=("summarize",)
    ),
    "vocabulary": Setting(
        help="Write with the N most frequent English words, or those of a file.", read=_text, tasks=("summarize",)
    ),
    "lines": Setting(
        help="Every line of a text file is a text of its own, not the file.", read=_switch, tasks=("summarize",)
    ),
    "from": Setting(
        help="The language of the text: a name or a code, such as en.", read=_text, tasks=("translate",), name="source"
    ),
    "to": Setting(help="The language to translate to.", read=_text, tasks=("translate",), name="target"),
    "dataset": Setting(
        help="Write n texts for each label's prefix to this .csv or .jsonl, as text, label and seed.",
        read=_text,
        tasks=("generate",),
    ),
    "prefix": Setting(
        help='A label with what its texts go on from: label="...".', read=_text, tasks=("generate",), several=True
    ),
    "positive": Setting(help="The same for the label positive.", read=_text, tasks=("generate",), several=True),
    "negative": Setting(help="The same for the label negative.", read=_text, tasks=("generate",), several=True),
}


@cache
def table() -> Mapping[str, Setting]:
    """Every setting by name: those of `Sampling` with what its docstring says of each, and the tasks' own."""
    said = _attributes(Sampling.__doc__ or "")
    found = {}
    for one in dataclasses.fields(Sampling):
        found[one.name] = Setting(
            help=said[one.name][:1].upper() + said[one.name][1:],
            read=_READ.get(one.name) or (_whole if one.name in WHOLE else _real),
            several=one.name in ("stop", "bad_words"),
        )
    return {**found, **OWN}


def _attributes(doc: str) -> dict[str, str]:
    """What a docstring says of each attribute, on one line."""
    part = doc.partition("Attributes:\n")[2].partition("\n\n")[0]
    rows = re.findall(r"^ {8}(\w+): (.+(?:\n {12}.+)*)", part, re.MULTILINE)
    return {name: " ".join(text.split()) for name, text in rows}


def listed() -> list[tuple[str, str]]:
    """For the help page: each setting as an option, and what it does."""
    return [(f"--{name.replace('_', '-')}", _helped(one)) for name, one in table().items()]


def _helped(one: Setting) -> str:
    return f"For {one.tasks[0]}: {one.help[:1].lower()}{one.help[1:]}" if one.tasks != WRITING else one.help


def as_settings(words: Iterable[str], options: Sequence[str]) -> Iterator[str]:
    """Rewrite ``--name value`` and ``--name=value`` of settings, which are no options, as ``--set=name=value``.

    Raises:
        UsageError: a setting without its value at the end.
    """
    rest = iter(words)
    for word in rest:
        name, sign, value = word.partition("=")
        key = name[2:].replace("-", "_")
        if word == "--":
            yield from (word, *rest)
        elif not word.startswith("--") or name in options or key not in table():
            yield word
        elif table()[key].read is _switch and not sign:
            yield f"--set={key}=true"
        else:
            given = value if sign else next(rest, None)
            if given is None:
                raise UsageError(f"{name} needs a value, as in {name} VALUE")
            yield f"--set={key}={given}"


@contextlib.contextmanager
def suggesting(options: Sequence[str]) -> Iterator[None]:
    """Let the complaint about an option that there is not name settings, too, of those that it may have meant."""
    try:
        yield
    except Exception as error:
        if isinstance(found := getattr(error, "option_name", None), str):
            names = [*options, *(f"--{name.replace('_', '-')}" for name in table())]
            vars(error)["possibilities"] = difflib.get_close_matches(found, names, n=1)
        raise


def _of(task: str) -> list[str]:
    return [name for name, one in table().items() if task in one.tasks]


def typed(task: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that other tasks take as text, as this one takes them.

    Raises:
        UsageError: one of the wrong kind.
    """
    own = {name: table()[name] for name, value in options.items() if name in table() and isinstance(value, str)}
    return dict(options) | {name: one.read(name, options[name]) for name, one in own.items() if task in one.tasks}


def settings(task: str, given: Sequence[str] | None) -> dict[str, Any]:
    """Settings by name, as the task takes them.

    Raises:
        UsageError: one that there is not, that the task has no use for, of the wrong kind, or given twice.
    """
    chosen: dict[str, Any] = {}
    for word in given or ():
        name, sign, value = word.partition("=")
        key = name.strip().replace("-", "_")
        if key not in table():
            raise UsageError(f"unknown option {name!r:.60}: {nearest(key, _of(task))}")
        one = table()[key]
        if task not in one.tasks:
            raise UsageError(f"--{name} is for {', '.join(one.tasks)}, not for {task}")
        if not sign:
            raise UsageError(f"--set {word!r:.60}: expected NAME=VALUE, as in temperature=0.7")
        if key in chosen and not one.several:
            raise UsageError(f"{key} is given twice")
        read = one.read(key, value)
        chosen[key] = [*chosen.get(key, []), read] if one.several else read
    return {table()[key].name or key: value for key, value in chosen.items()}
