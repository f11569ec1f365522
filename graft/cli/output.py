"""How results look: JSON lines for programs, aligned text for people."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterable, Sequence
from typing import Any

BAR = 24
UNITS = ("bytes", "kB", "MB", "GB", "TB")


def write(line: str = "") -> None:
    """One line of results."""
    sys.stdout.write(f"{line}\n")


def as_json(value: Any) -> str:
    """A value as one line of JSON in UTF-8; NaN and infinity, which JSON does not have, are an error.

    >>> as_json({"label": "été", "n": 1})
    '{"label": "été", "n": 1}'
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False)
    try:
        text.encode()
    except UnicodeEncodeError:  # half of a surrogate pair has no UTF-8
        return json.dumps(value, allow_nan=False)
    return text


def write_json(value: Any) -> None:
    """One line of JSON, whatever encoding the stream has."""
    text = as_json(value)
    if (sys.stdout.encoding or "").lower().replace("-", "") != "utf8":
        text = json.dumps(value, allow_nan=False)
    write(text)


def one_line(text: str) -> str:
    r"""Text for a terminal: on one line, and without characters that could steer the terminal.

    >>> one_line("two\nlines, \x1b[31mred")
    'two lines, \\x1b[31mred'
    """
    joined = " ".join(text.split())
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in joined)


def shortened(text: str, used: int = 0) -> str:
    """Text on one line; on a terminal no longer than what is left of the line."""
    line = one_line(text)
    if not sys.stdout.isatty():
        return line
    room = max(20, shutil.get_terminal_size().columns - used)
    return line if len(line) <= room else f"{line[: room - 1]}…"


def bar(share: float) -> str:
    """A share from 0 to 1 as a bar of at most BAR signs."""
    sign = "█" if (sys.stdout.encoding or "").lower().startswith("utf") else "#"
    return sign * round(BAR * share)


def columns(rows: Sequence[Sequence[str]]) -> Iterable[str]:
    """Rows of equally many cells, in columns two spaces apart.

    >>> list(columns([["a", "bb"], ["ccc", "d"]]))
    ['a    bb', 'ccc  d']
    """
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    for row in rows:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def write_columns(rows: Sequence[Sequence[str]]) -> None:
    """Print rows in columns."""
    for line in columns(rows):
        write(line)


def write_metrics(metrics: dict[str, dict[str, float]]) -> None:
    """Print scores with their intervals."""
    write_columns(
        [
            [name, f"{score['value']:.3f}", f"[{score['low']:.3f}, {score['high']:.3f}]"]
            for name, score in metrics.items()
        ]
    )


def size(count: float) -> str:
    """Bytes for people, in powers of 1000.

    >>> size(90868376), size(512)
    ('90.9 MB', '512 bytes')
    """
    unit = 0
    while count >= 1000 and unit < len(UNITS) - 1:
        count, unit = count / 1000, unit + 1
    return f"{count:.1f} {UNITS[unit]}" if unit else f"{int(count)} {UNITS[0]}"


def amount(count: int) -> str:
    """A number of parameters for people.

    >>> amount(22713216), amount(1152)
    ('22.7 M', '1,152')
    """
    for unit, word in ((10**9, "B"), (10**6, "M")):
        if count >= unit:
            return f"{count / unit:.1f} {word}"
    return f"{count:,}"
