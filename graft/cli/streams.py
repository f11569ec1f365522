"""What surrounds a command: its streams, the signals that end it, and the chatter of libraries."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import signal
import sys
import threading
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn, TextIO

from graft.cli.output import one_line


def debugging() -> bool:
    """Whether GRAFT_DEBUG asks for tracebacks and warnings."""
    return os.environ.get("GRAFT_DEBUG", "") not in ("", "0")


@contextlib.contextmanager
def prepared() -> Iterator[None]:
    """Set up this process for one command, and leave it as it was found."""
    _open_streams()
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")
    with _terminable(), _notices(), warnings.catch_warnings():
        if not debugging() and not sys.warnoptions:
            warnings.simplefilter("ignore")
        yield


def flush() -> None:
    """Hand over all output now, so that a full disk or a reader gone away is noticed while it can be reported."""
    sys.stdout.flush()
    sys.stderr.flush()


def silence(stream: TextIO) -> None:
    """Let a stream whose other end is gone lead nowhere, or Python complains about it once more on its way out."""
    with contextlib.suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, stream.fileno())
        os.close(nowhere)


def _open_streams() -> None:
    """Both streams exist, and take any character: those their encoding lacks are written as escapes."""
    if sys.stdout is None:
        sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115 - for the life of the process
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


@contextlib.contextmanager
def _terminable() -> Iterator[None]:
    """Let a request to terminate unwind as Ctrl-C does, so that temporary files are removed."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    names = [name for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]
    # A signal that is ignored, as under nohup, stays ignored.
    taken = [
        number for number in (getattr(signal, name) for name in names) if signal.getsignal(number) == signal.SIG_DFL
    ]
    for number in taken:
        signal.signal(number, _terminate)
    try:
        yield
    finally:
        for number in taken:
            signal.signal(number, signal.SIG_DFL)


def _terminate(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


class _Notices(logging.Handler):
    """What Graft's own modules have to say, as notices; the loggers of libraries stay silent."""

    def emit(self, record: logging.LogRecord) -> None:
        sys.stderr.write(f"note: {one_line(record.getMessage())}\n")


@contextlib.contextmanager
def _notices() -> Iterator[None]:
    own, everyone = logging.getLogger("graft"), logging.getLogger()
    ours, nobody = _Notices(), logging.NullHandler()
    own.addHandler(ours)
    if not debugging():
        everyone.addHandler(nobody)
    level, own.propagate = own.level, False
    try:
        yield
    finally:
        own.setLevel(level)
        own.propagate = True
        own.removeHandler(ours)
        everyone.removeHandler(nobody)
