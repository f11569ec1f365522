"""The text that ``graft run ask`` looks for answers in, and the options of single tasks."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from graft.errors import DataError, UsageError

OWN = {
    "ask": ("context", "n", "threshold", "stride", "longest", "template"),
    "choice": ("context",),
    "classify": ("labels", "template"),
    "complete": ("n",),
    "score": ("context", "per", "compare", "stride", "within_word"),
    "correct": ("words", "real_words"),
    "generate": ("n",),
    "pair": ("labels", "template"),
    "similarity": ("template",),
    "summarize": ("longest", "n", "template", "words"),
    "translate": ("longest", "n", "template"),
}
"""Options that only some tasks take."""


def task_options(task: str, given: Mapping[str, Any], context: str | None) -> dict[str, Any]:
    """The options that were given; those of other tasks are refused before a model is loaded.

    Raises:
        UsageError: an option this task does not have.
    """
    options = {name: value for name, value in given.items() if value is not None}
    for name in [*options, *(["context"] if context is not None else [])]:
        takers = [taker for taker, own in OWN.items() if name in own]
        if task not in takers:
            raise UsageError(f"--{name.replace('_', '-')} is for {', '.join(takers)}, not for {task}")
    return options


def read_context(given: str, question: str | None, encoding: str | None) -> str:
    """The text itself, or all of a file, or of standard input for ``-``.

    Raises:
        UsageError: standard input is to give the questions as well.
        DataError: the file is not there, not text, or empty.
    """
    from graft.cli import documents
    from graft.cli.texts import file_kind

    if given == "-":
        if question in (None, "-"):
            raise UsageError("--context -: standard input cannot give both the questions and the text; name a file")
        text, where = documents.standard_input(encoding), "standard input"
    elif os.path.isdir(given):
        raise DataError(f"{given}: a folder; --context takes a text or one file")
    elif os.path.isfile(given) or file_kind(given) is not None:
        text, where = documents.read(Path(given), encoding), given
    else:
        text, where = given, "--context"
    if not text.strip():
        raise DataError(f"{where}: there is no text in it to look for answers in")
    return text
