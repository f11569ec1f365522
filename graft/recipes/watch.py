"""What a long job says while it runs: notices, and a progress bar with rate and time left, on standard error."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


class Watch:
    """Prints to standard error; silent where asked to be. The bar is drawn on a terminal only."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self.console = Console(stderr=True, quiet=quiet, highlight=False, soft_wrap=True)

    def note(self, text: str) -> None:
        """Print one line; the text is taken literally."""
        self.console.print(text, markup=False)

    @contextmanager
    def bar(self, what: str, total: int, unit: str = "rows") -> Iterator[Bar]:
        """A progress bar over ``total`` units, gone when done."""
        with Bar(self.console, what, total, unit, shown=not self.quiet and sys.stderr.isatty()) as bar:
            yield bar


class Bar:
    """One progress bar."""

    def __init__(self, console: Console, what: str, total: int, unit: str, *, shown: bool) -> None:
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TimeElapsedColumn(),
            TextColumn("left"),
            TimeRemainingColumn(),
            TextColumn("{task.fields[figures]}"),
            console=console,
            transient=True,
            disable=not shown,
        )
        self._unit = unit
        self._task = self._progress.add_task(what, total=total, rate="", figures="")

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
