"""What a long job says while it runs: notices, and its progress with rate and time left, on standard error."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

EVERY = 30.0
"""Seconds between two lines of progress where no bar can be drawn."""


class Watch:
    """Prints to standard error; silent where asked to be. A terminal shows a bar, a log a line now and then."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print one line; the text is taken literally."""
        self.console.print(text, markup=False)

    @contextmanager
    def bar(self, what: str, total: int, unit: str = "rows") -> Iterator[Bar]:
        """Progress over ``total`` units: a bar that is gone when done, or lines in a log."""
        with Bar(self, what, total, unit, drawn=not self.quiet and sys.stderr.isatty()) as bar:
            yield bar


class Bar:
    """The progress of one job."""

    def __init__(self, watch: Watch, what: str, total: int, unit: str, *, drawn: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=watch.console,
            transient=True,
            disable=not drawn,
        )
        self._watch, self._what, self._unit, self._drawn = watch, what, unit, drawn
        self._task = self._progress.add_task(what, total=total, rate="", figures="")
        self._started = self._said = time.monotonic()

    def __enter__(self) -> Bar:
        self._progress.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._progress.stop()

    def advance(self, count: int = 1, **figures: Any) -> None:
        """So many more are done; figures such as the loss are shown beside the bar."""
        speed = self._progress.tasks[0].speed
        rate = f"{speed:,.0f} {self._unit}/s" if speed else ""
        shown = " ".join(f"{name} {value}" for name, value in figures.items())
        self._progress.update(self._task, advance=count, rate=rate, figures=shown)
        if not self._drawn and time.monotonic() - self._said >= EVERY:
            self._said = time.monotonic()
            self._watch.note(self._line(shown))

    def _line(self, figures: str) -> str:
        """How far the job has come, for a log."""
        done, total = self._progress.tasks[0].completed, self._progress.tasks[0].total or 0
        rate = done / (time.monotonic() - self._started)
        known = f"{done:,.0f} of {total:,.0f} {self._unit}" if total else f"{done:,.0f} {self._unit}"
        left = f", {_clock((total - done) / rate)} left" if total and rate else ""
        return f"{self._what}: {known}, {rate:,.3g} a second{left}{', ' if figures else ''}{figures}"


def _clock(seconds: float) -> str:
    """Seconds as hours, minutes and seconds.

    >>> _clock(59.6), _clock(3725)
    ('1:00', '1:02:05')
    """
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
