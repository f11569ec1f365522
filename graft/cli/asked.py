"""How the answers of ``graft run ask`` are shown: the answer, how probable it is, and where in the text it stands."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from graft.cli.output import one_line, write
from graft.evaluate.wording import around

if TYPE_CHECKING:
    from graft.heads import Answer

AROUND = 60
"""Characters of the text shown before and after an answer."""

NONE = "no answer"


def brief(answer: Answer) -> str:
    """An answer and its probability on one line; "no answer" in brackets, which no text of an answer has by itself."""
    said = one_line(answer.text) if answer.text else f"[{NONE}]"
    return f"{said}  {answer.score or 0:.3f}"


def show(context: str, answer: Answer) -> None:
    """Print an answer with its place, and the next best ones likewise."""
    for one in (answer, *(answer.alternatives or ())):
        if one.start is None or one.end is None:
            write(f"{brief(one)}  the text does not say")
        else:
            write(f"{brief(one)}  {_place(context, one.start, one.end)}")
            write(f"    {marked(context, one.start, one.end)}")


def _place(context: str, start: int, end: int) -> str:
    line = f"line {context.count(chr(10), 0, start) + 1}, " if "\n" in context.rstrip("\n") else ""
    return f"({line}characters {start} to {end})"


def marked(context: str, start: int, end: int) -> str:
    """The answer, marked, in one line of what stands around it."""
    utf8 = (sys.stdout.encoding or "").lower().startswith("utf")
    return one_line(around(context, start, end, AROUND, ("»", "«", "…") if utf8 else (">>", "<<", "...")))
