"""From an exception to one line on standard error and an exit code."""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import asdict, dataclass
from typing import Any

from graft.cli import streams
from graft.cli.output import one_line
from graft.errors import GraftError

CANCELLED, READER_GONE = 130, 141


@dataclass(frozen=True)
class Failure:
    """What went wrong, for people and programs."""

    type: str
    message: str
    exit_code: int


def report(error: BaseException, *, as_json: bool) -> int:
    """Say on standard error what went wrong.

    Args:
        error: what ended the command.
        as_json: one line of JSON instead of a line for people.

    Returns:
        The exit code.
    """
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else 1
    if streams.debugging():
        traceback.print_exception(error)
    failure = explain(error)
    try:
        sys.stdout.flush()
    except OSError:
        streams.silence(sys.stdout)
    if failure.exit_code != READER_GONE:
        _say(failure, as_json)
    return failure.exit_code


def _say(failure: Failure, as_json: bool) -> None:
    line = f"error: {failure.message}"
    if as_json:
        line = json.dumps({"error": asdict(failure)})
    try:
        sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
    except OSError:
        streams.silence(sys.stderr)


def explain(error: BaseException) -> Failure:
    """Tell mistakes of the user, limits of the machine and bugs apart."""
    name = type(error).__name__
    if _cancelled(error):
        return Failure("Cancelled", "cancelled", CANCELLED)
    if isinstance(error, GraftError):
        return Failure(name, one_line(str(error)), error.exit_code)
    if isinstance(error, BrokenPipeError):
        return Failure(name, "the reader of the output went away", READER_GONE)
    if hasattr(error, "format_message"):
        return Failure("UsageError", _wrong_use(error), 2)
    if _out_of_memory(error):
        advice = "choose a smaller --batch-size, a lower --limit, or a smaller model"
        return Failure("OutOfMemory", f"there is not enough memory for this; {advice}", 1)
    if isinstance(error, OSError) and error.strerror:
        place = f"{os.fsdecode(error.filename)}: " if isinstance(error.filename, str | bytes) else ""
        return Failure("StorageError", one_line(f"{place}{error.strerror}"), 1)
    where = "GRAFT_DEBUG=1 shows where; please report it with that output"
    return Failure("Bug", one_line(f"this is a bug in Graft: {name}: {error} ({where})"), 1)


def _cancelled(error: BaseException | None) -> bool:
    """Whether Ctrl-C is behind an error, also where a library turned it into one of its own."""
    while error is not None:
        if isinstance(error, KeyboardInterrupt):
            return True
        error = error.__cause__ or error.__context__
    return False


def _out_of_memory(error: BaseException) -> bool:
    """Python's own error, or one of torch's, which has no class of its own for the processor."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def _wrong_use(error: Any) -> str:
    """The message of the parser, with a suggestion and the way to the help page."""
    message = str(error.format_message()).split(" (Possible options:")[0].removesuffix(".")
    message = message[:1].lower() + message[1:]
    near = [*(getattr(error, "possibilities", None) or ())]
    if near:
        message += f"; did you mean {near[0]}?"
    context = getattr(error, "ctx", None)
    where = context.command_path if context is not None else "graft"
    return one_line(f"{message.removesuffix('?')}{'?' if message.endswith('?') else ';'} see `{where} --help`")
