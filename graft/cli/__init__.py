"""The command line: ``graft VERB ... [key=value ...]``. Results on standard output, all else on standard error.

Exit codes: 0 done, 1 failed, 2 wrong use, 130 cancelled with Ctrl-C, 141 when the reader of the output went away, 143
terminated. Errors are one line that begins with ``error:``; with ``--json`` one line of JSON on standard error,
``{"error": {"type", "message", "exit_code"}}``. GRAFT_DEBUG=1 shows tracebacks and the warnings of libraries.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: the words after ``graft``; by default those of this process.

    Returns:
        The exit code.
    """
    from graft.cli import failures, streams

    words = list(sys.argv[1:] if arguments is None else arguments)
    with streams.prepared():
        try:
            code = _command(words)
            streams.flush()
        except BaseException as error:
            code = failures.report(error, as_json="--json" in words or "json=true" in words)
    return code


def _command(words: list[str]) -> int:
    import typer

    from graft.cli.app import command

    group = command()
    try:
        with group.make_context("graft", words) as context:
            group.invoke(context)
    except typer.Exit as stop:
        return stop.exit_code
    return 0
